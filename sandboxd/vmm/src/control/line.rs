//! Cutting a byte stream into lines without ever holding more than one line.

/// Collects bytes until a newline.
pub struct LineBuffer {
    bytes: Vec<u8>,
    max: usize,
}

/// The peer sent a line that is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {max} bytes")]
pub struct LineTooLong {
    /// The bound, newline included.
    pub max: usize,
}

impl LineBuffer {
    /// An empty buffer for lines of at most `max` bytes, newline included.
    pub fn new(max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            max,
        }
    }

    /// Takes bytes and hands each complete line, without its newline, to `line`.
    ///
    /// # Errors
    /// When a line exceeds the bound; what came before it has been handed on, and the stream cannot be used any more.
    pub fn push(
        &mut self,
        mut input: &[u8],
        mut line: impl FnMut(&[u8]),
    ) -> Result<(), LineTooLong> {
        let too_long = LineTooLong { max: self.max };
        while let Some(end) = input.iter().position(|&byte| byte == b'\n') {
            let (head, rest) = (&input[..end], &input[end + 1..]);
            if self.bytes.len() + head.len() + 1 > self.max {
                return Err(too_long);
            }
            if self.bytes.is_empty() {
                line(head);
            } else {
                self.bytes.extend_from_slice(head);
                line(&self.bytes);
                // A long line is rare; its space is given back.
                self.bytes = Vec::new();
            }
            input = rest;
        }
        if self.bytes.len() + input.len() + 1 > self.max {
            return Err(too_long);
        }
        self.bytes.extend_from_slice(input);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_come_out_as_they_are_completed() {
        let mut buffer = LineBuffer::new(8);
        let mut lines = Vec::new();
        buffer
            .push(b"ab", |line| lines.push(line.to_vec()))
            .unwrap();
        buffer
            .push(b"c\n\nde\nf", |line| lines.push(line.to_vec()))
            .unwrap();
        assert_eq!(lines, [b"abc".to_vec(), b"".to_vec(), b"de".to_vec()]);
    }

    #[test]
    fn the_bound_counts_the_newline() {
        let mut buffer = LineBuffer::new(4);
        buffer
            .push(b"abc\n", |line| assert_eq!(line, b"abc"))
            .unwrap();
        assert_eq!(buffer.push(b"abcd", |_| ()), Err(LineTooLong { max: 4 }));
    }

    proptest! {
        #[test]
        fn cutting_does_not_depend_on_how_bytes_arrive(
            text in "[ab\n]{0,80}",
            cuts in prop::collection::vec(0usize..80, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&cut| cut <= bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut buffer = LineBuffer::new(100);
            let mut got = Vec::new();
            for pair in cuts.windows(2) {
                buffer.push(&bytes[pair[0]..pair[1]], |line| got.push(line.to_vec())).unwrap();
            }
            let mut want: Vec<Vec<u8>> = bytes.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
            want.pop();
            prop_assert_eq!(got, want);
        }

        #[test]
        fn it_never_holds_more_than_the_bound(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut buffer = LineBuffer::new(32);
            for chunk in chunks {
                if buffer.push(&chunk, |_| ()).is_err() {
                    break;
                }
                prop_assert!(buffer.bytes.len() < 32);
            }
        }
    }
}
