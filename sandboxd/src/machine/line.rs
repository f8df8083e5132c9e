//! Reading one bounded line from a stream whose later bytes belong to somebody else.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads up to and including the next LF, byte by byte so that nothing behind it is taken, and returns the line
/// without it. A line longer than `limit` bytes with its LF, or an end of stream before the LF, is an error.
pub async fn read_line<S: AsyncRead + Unpin>(stream: &mut S, limit: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while line.len() < limit {
        match stream.read_u8().await? {
            b'\n' => return Ok(line),
            byte => line.push(byte),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a line is longer than {limit} bytes"),
    ))
}

#[cfg(test)]
mod tests {
    use super::read_line;

    #[tokio::test]
    async fn takes_one_line_and_nothing_more() {
        let mut bytes: &[u8] = b"OK\nSSH-2.0";
        assert_eq!(read_line(&mut bytes, 8).await.unwrap(), b"OK");
        assert_eq!(bytes, b"SSH-2.0");
    }

    #[tokio::test]
    async fn refuses_long_and_unfinished_lines() {
        let mut long: &[u8] = b"12345678\n";
        assert_eq!(
            read_line(&mut long, 8).await.unwrap_err().kind(),
            std::io::ErrorKind::InvalidData
        );
        let mut cut: &[u8] = b"123";
        assert_eq!(
            read_line(&mut cut, 8).await.unwrap_err().kind(),
            std::io::ErrorKind::UnexpectedEof
        );
    }
}
