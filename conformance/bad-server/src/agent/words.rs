//! The words of the shell: where commands end, and what `printf` and a terminal make of bytes. Pure.

/// What comes between two commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    Then,
    And,
    Or,
    Background,
}

/// Commands with what follows each.
pub fn split(text: &str) -> Vec<(String, Joint)> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let joint = match (c, quote) {
            (c, Some(q)) => {
                if c == q {
                    quote = None;
                }
                None
            }
            ('\'' | '"', None) => {
                quote = Some(c);
                None
            }
            (';' | '\n', None) => Some(Joint::Then),
            ('&', None) if part.ends_with('>') => None,
            ('&', None) if chars.next_if_eq(&'&').is_some() => Some(Joint::And),
            ('&', None) => Some(Joint::Background),
            ('|', None) if chars.next_if_eq(&'|').is_some() => Some(Joint::Or),
            _ => None,
        };
        match joint {
            Some(joint) => parts.push((std::mem::take(&mut part), joint)),
            None => part.push(c),
        }
    }
    parts.push((part, Joint::Then));
    parts
}

/// `printf`, as far as the suite uses it: `%s`, `%d`, `\n`, `\t`, `\\` and octal bytes.
pub fn printed(format: &str, args: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut args = args.iter();
    let bytes = format.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'%', Some(b's' | b'd')) => {
                out.extend_from_slice(args.next().unwrap_or(&"").as_bytes());
                at += 2;
            }
            (b'\\', Some(b'n')) => {
                out.push(b'\n');
                at += 2;
            }
            (b'\\', Some(b'\\')) => {
                out.push(b'\\');
                at += 2;
            }
            (b'\\', Some(b'0'..=b'7')) => {
                let digits: String = format[at + 1..]
                    .chars()
                    .take(3)
                    .take_while(|c| ('0'..='7').contains(c))
                    .collect();
                out.push(u8::from_str_radix(&digits, 8).unwrap_or(b'?'));
                at += 1 + digits.len();
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Bytes as a terminal shows them: each line end with a carriage return.
pub fn terminal(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .flat_map(|byte| {
            if *byte == b'\n' {
                vec![b'\r', b'\n']
            } else {
                vec![*byte]
            }
        })
        .collect()
}
