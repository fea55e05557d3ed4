//! The chunked transfer coding of a request's body, decoded strictly (RFC 9112, section 7.1): pure, byte by byte if need be.
//!
//! Whatever another server in front of us might read differently is refused: a bare LF, space around a size, a sign, a
//! prefix, an extension that is none. Extensions and trailers are read, bounded and thrown away; a trailer that would have
//! had to be heeded before the body is refused.

use super::head::is_token;
use super::refusal::Refusal;

/// The most hexadecimal digits of a chunk's size.
const MAX_DIGITS: u8 = 16;

/// The most bytes of chunk extensions in one body.
const MAX_EXTENSIONS: usize = 4 << 10;

/// The most bytes of trailers.
const MAX_TRAILERS: usize = 8 << 10;

/// Fields that must not come after the body, since they decide framing, routing, authentication or how the body is to be
/// read (RFC 9110, section 6.5.1): whoever merged them into the head would read another request.
const FORBIDDEN_TRAILERS: [&[u8]; 22] = [
    b"api-key",
    b"authorization",
    b"cache-control",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"host",
    b"keep-alive",
    b"max-forwards",
    b"pragma",
    b"proxy-authorization",
    b"proxy-connection",
    b"range",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-api-key",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size { value: u64, digits: u8 },
    Extension { value: u64, part: Part },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
    Done,
}

/// Where in a chunk's extensions: each is a semicolon and a name, and may have a value, which is a token or quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    BeforeName,
    Name,
    BeforeValue,
    Value,
    Quoted,
    QuotedPair,
    AfterQuoted,
}

impl Part {
    /// What a byte of an extension leads to; `None` if it cannot stand there. White space may stand before a name alone.
    fn step(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::BeforeName, b' ' | b'\t') => Self::BeforeName,
            (Self::BeforeName | Self::Name, _) if is_token(byte) => Self::Name,
            (Self::Name, b'=') => Self::BeforeValue,
            (Self::Name | Self::Value | Self::AfterQuoted, b';') => Self::BeforeName,
            (Self::BeforeValue, b'"') => Self::Quoted,
            (Self::BeforeValue | Self::Value, _) if is_token(byte) => Self::Value,
            (Self::Quoted, b'\\') => Self::QuotedPair,
            (Self::Quoted, b'"') => Self::AfterQuoted,
            (Self::Quoted | Self::QuotedPair, _) if !is_control(byte) => Self::Quoted,
            _ => return None,
        })
    }

    fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::AfterQuoted)
    }
}

/// Where the decoding of one body stands.
#[derive(Debug)]
pub(super) struct Chunked {
    at: At,
    extensions: usize,
    trailers: usize,
    line: Vec<u8>,
    most: usize,
}

impl Chunked {
    /// A decoder for a body of at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { at: At::Size { value: 0, digits: 0 }, extensions: 0, trailers: 0, line: Vec::new(), most }
    }

    /// Whether the body and its trailers are over.
    pub(super) fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// Decodes as much of `input` as belongs to the body, appends the data to `body` and returns how much was used.
    pub(super) fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, Refusal> {
        let mut used = 0;
        while used < input.len() && !self.is_done() {
            if let At::Data { left } = self.at {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - used);
                body.extend_from_slice(&input[used..used + take]);
                used += take;
                let left = left - take as u64;
                self.at = if left == 0 { At::DataCr } else { At::Data { left } };
            } else {
                self.at = self.step(input[used], body.len())?;
                used += 1;
            }
        }
        Ok(used)
    }

    fn step(&mut self, byte: u8, so_far: usize) -> Result<At, Refusal> {
        Ok(match (self.at, byte) {
            (At::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == MAX_DIGITS {
                    return Err(Refusal::malformed("a chunk's size has too many digits"));
                }
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                At::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (At::Size { digits: 0, .. }, _) => return Err(Refusal::malformed("a chunk has no size")),
            (At::Size { value, .. }, b';') => At::Extension { value, part: Part::BeforeName },
            (At::Size { value, .. }, b'\r') => At::SizeLf { value },
            (At::Size { .. }, _) => return Err(Refusal::malformed("a chunk's size is not a hexadecimal number")),
            (At::Extension { value, part }, b'\r') if part.may_end() => At::SizeLf { value },
            (At::Extension { value, part }, _) => {
                self.extensions += 1;
                if self.extensions > MAX_EXTENSIONS {
                    return Err(Refusal::malformed("the chunk extensions are too long"));
                }
                let part = part.step(byte).ok_or_else(|| Refusal::malformed("a chunk extension is malformed"))?;
                At::Extension { value, part }
            }
            (At::SizeLf { value: 0 }, b'\n') => At::Trailer,
            (At::SizeLf { value }, b'\n') => {
                if value > (self.most - so_far.min(self.most)) as u64 {
                    return Err(Refusal::body_too_large(self.most));
                }
                At::Data { left: value }
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size { value: 0, digits: 0 },
            (At::DataCr | At::DataLf, _) => return Err(Refusal::malformed("a chunk is longer than its size")),
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::Trailer, _) => {
                self.trailers += 1;
                if is_control(byte) {
                    return Err(Refusal::malformed("a trailer has a control character"));
                }
                if self.trailers > MAX_TRAILERS {
                    return Err(Refusal::head_too_large("the trailers are too long"));
                }
                self.line.push(byte);
                At::Trailer
            }
            (At::TrailerLf, b'\n') if self.line.is_empty() => At::Done,
            (At::TrailerLf, b'\n') => {
                check_trailer(&self.line)?;
                self.line.clear();
                At::Trailer
            }
            (At::SizeLf { .. } | At::TrailerLf, _) => return Err(Refusal::malformed("a line ends in a bare CR")),
            (At::Data { .. } | At::Done, _) => self.at,
        })
    }
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

fn check_trailer(line: &[u8]) -> Result<(), Refusal> {
    let colon = memchr::memchr(b':', line).ok_or_else(|| Refusal::malformed("a trailer has no colon"))?;
    let name = &line[..colon];
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::malformed("a trailer's name is not a token"));
    }
    if FORBIDDEN_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
        return Err(Refusal::malformed("a trailer is of those that must stand in the head"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(input: &[u8], most: usize) -> Result<(Vec<u8>, usize, bool), u16> {
        let (mut chunked, mut body) = (Chunked::new(most), Vec::new());
        let used = chunked.decode(input, &mut body).map_err(|refusal| refusal.status)?;
        Ok((body, used, chunked.is_done()))
    }

    #[test]
    fn a_body_is_the_same_wherever_it_is_split() {
        let input = b"5;name=\"v;\\\"\";b=c; d\r\nhello\r\n0A\r\n, world! 1\r\n0\r\nX-Sum: 1\r\n\r\nGET ";
        for split in 0..input.len() {
            let (mut chunked, mut body) = (Chunked::new(100), Vec::new());
            let mut used = chunked.decode(&input[..split], &mut body).expect("well formed");
            if used == split {
                used += chunked.decode(&input[split..], &mut body).expect("well formed");
            }
            assert!(chunked.is_done());
            assert_eq!((body.as_slice(), used), (&b"hello, world! 1"[..], input.len() - 4), "split at {split}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            &b"\r\nhello\r\n"[..],
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\rhello\r\n",
            b"+5\r\nhello\r\n",
            b"-5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"5_0\r\nhello\r\n",
            b"G\r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n",
            b"5\r\nhello0\r\n\r\n",
            b"00000000000000005\r\nhello\r\n",
            b"5;a\nb\r\nhello\r\n",
            b"5;\0\r\nhello\r\n",
            b"5;\r\nhello\r\n",
            b"5;;a\r\nhello\r\n",
            b"5;a=\r\nhello\r\n",
            b"5;a b\r\nhello\r\n",
            b"5;a[=b\r\nhello\r\n",
            b"5;a=\"b\r\nhello\r\n",
            b"5;a=\"b\"c\r\nhello\r\n",
            b"5;a=\"b\\\r\nhello\r\n",
            b"5;a\rX\r\nhello\r\n",
            b"5 ;a\r\nhello\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\n folded: 1\r\n\r\n",
            b"0\r\nName : 1\r\n\r\n",
            b"0\r\nContent-Length: 1\r\n\r\n",
            b"0\r\ntransfer-encoding: chunked\r\n\r\n",
            b"0\r\nHost: x\r\n\r\n",
            b"0\r\nAuthorization: Bearer x\r\n\r\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\n\rX",
        ] {
            assert_eq!(whole(bad, 100).err(), Some(400), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn sizes_extensions_and_trailers_are_bounded() {
        assert_eq!(whole(b"64\r\n", 100).map(|(.., done)| done), Ok(false), "100 of 100 bytes");
        assert_eq!(whole(b"65\r\n", 100).err(), Some(413));
        assert_eq!(whole(b"ffffffffffffffff\r\n", 100).err(), Some(413));
        assert_eq!(whole(b"60\r\n", 95).err(), Some(413));
        let long = |prefix: &str, n: usize| [prefix.as_bytes(), &vec![b'a'; n]].concat();
        assert_eq!(whole(&long("5;", MAX_EXTENSIONS + 1), 100).err(), Some(400));
        assert_eq!(whole(&long("0\r\nA:", MAX_TRAILERS), 100).err(), Some(431));
    }
}
