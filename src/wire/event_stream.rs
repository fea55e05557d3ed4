//! The frames of `application/vnd.amazon.eventstream` out of bytes that come in any pieces, and back into bytes.
//!
//! Source: "Amazon event stream specification" in Smithy's documentation. A frame is its length, the length of its headers
//! and a checksum of these two; its headers; its payload; a checksum of all that. AWS's own crate for it brings seventeen
//! others, which is more than a build may take (`tests/supply.rs`), for what is written here; botocore's parser is the judge
//! (`tests/sdk/test_aws.py`, with the frames of `tests/golden/eventstream`).

use std::fmt;

use super::sse::append;

/// What stands before the headers: two lengths and their checksum.
const PRELUDE: usize = 12;

/// What stands around headers and payload.
const AROUND: usize = PRELUDE + 4;

/// The type of a header whose value is text.
const TEXT: u8 = 7;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An event of the stream's shape, which [`Frame::name`] names.
    Event,
    /// One of the errors that the shape knows, by [`Frame::name`].
    Exception,
    /// Another error: [`Frame::name`] is its code, the payload says nothing.
    Error,
}

/// One frame, whole and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Its bytes as they came: forwarding them forwards the frame.
    pub(crate) raw: &'a [u8],
    pub(crate) kind: Kind,
    /// `:event-type`, `:exception-type` or `:error-code`; empty if it is not there.
    pub(crate) name: &'a str,
    /// `:error-message`, which errors have that are no exceptions.
    pub(crate) message: &'a str,
    /// What the payload is.
    pub(crate) content_type: &'a str,
    pub(crate) payload: &'a [u8],
}

/// Why nothing more comes out of a decoder: what follows cannot be trusted to begin where a frame does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A frame says that it is longer than this many bytes.
    TooLong(usize),
    /// The lengths contradict each other.
    Lengths,
    /// A checksum is not that of the bytes.
    Checksum,
    /// A header is not what its type says.
    Headers,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(limit) => write!(f, "a frame of the stream is longer than {limit} bytes"),
            Self::Lengths => f.write_str("the lengths of a frame of the stream contradict each other"),
            Self::Checksum => f.write_str("a checksum of the stream is wrong"),
            Self::Headers => f.write_str("the headers of a frame of the stream cannot be read"),
        }
    }
}

impl std::error::Error for Broken {}

/// Cuts a stream of bytes into frames. Holds at most one unfinished frame and what was pushed and not yet taken out.
#[derive(Debug)]
pub(crate) struct Decoder {
    limit: usize,
    buffer: Vec<u8>,
    /// Where the frame under way begins in `buffer`.
    start: usize,
    /// A frame was broken.
    ended: bool,
}

impl Decoder {
    /// A decoder that refuses a frame of more than `max_frame_bytes`.
    pub(crate) fn new(max_frame_bytes: usize) -> Self {
        Self { limit: max_frame_bytes, buffer: Vec::new(), start: 0, ended: false }
    }

    /// Takes what came. Call [`next`](Self::next) until it has nothing more before pushing again: that bounds the memory.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.ended {
            return;
        }
        append(&mut self.buffer, &mut self.start, bytes);
    }

    /// The next whole frame; `None` until more is pushed.
    pub(crate) fn next(&mut self) -> Option<Result<Frame<'_>, Broken>> {
        if self.ended {
            return None;
        }
        match length(&self.buffer[self.start..], self.limit) {
            Ok(None) => None,
            Ok(Some(length)) => {
                let raw = self.start..self.start + length;
                self.start = raw.end;
                let read = frame(&self.buffer[raw]);
                self.ended = read.is_err();
                Some(read)
            }
            Err(broken) => {
                self.ended = true;
                Some(Err(broken))
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// How long the first frame is, if so much of it has come.
fn length(bytes: &[u8], limit: usize) -> Result<Option<usize>, Broken> {
    let (Some(total), Some(headers), Some(checksum)) = (word(bytes, 0), word(bytes, 4), word(bytes, 8)) else {
        return Ok(None);
    };
    // Before the lengths are believed.
    if crc32fast::hash(&bytes[..8]) != checksum {
        return Err(Broken::Checksum);
    }
    let (total, headers) = (total as usize, headers as usize);
    if total > limit {
        return Err(Broken::TooLong(limit));
    }
    if total < AROUND || headers > total - AROUND {
        return Err(Broken::Lengths);
    }
    Ok((bytes.len() >= total).then_some(total))
}

/// Reads a frame whose prelude was checked.
fn frame(raw: &[u8]) -> Result<Frame<'_>, Broken> {
    let (body, headers) = (raw.len() - 4, word(raw, 4).unwrap_or(0) as usize);
    if word(raw, body) != Some(crc32fast::hash(&raw[..body])) {
        return Err(Broken::Checksum);
    }
    let payload = &raw[PRELUDE + headers..body];
    let mut frame = Frame { raw, kind: Kind::Event, name: "", message: "", content_type: "", payload };
    let mut rest = &raw[PRELUDE..PRELUDE + headers];
    while !rest.is_empty() {
        let (name, value, after) = header(rest).ok_or(Broken::Headers)?;
        rest = after;
        match (name, value) {
            (b":message-type", Some("exception")) => frame.kind = Kind::Exception,
            (b":message-type", Some("error")) => frame.kind = Kind::Error,
            (b":event-type" | b":exception-type" | b":error-code", Some(value)) => frame.name = value,
            (b":error-message", Some(value)) => frame.message = value,
            (b":content-type", Some(value)) => frame.content_type = value,
            _ => {}
        }
    }
    Ok(frame)
}

/// The first header's name, its value if that is text, and what follows it.
fn header(bytes: &[u8]) -> Option<(&[u8], Option<&str>, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length)).filter(|(name, _)| !name.is_empty())?;
    let (kind, rest) = rest.split_first()?;
    let width = match kind {
        // True and false say all by their type.
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        // A long, a time.
        5 | 8 => 8,
        // Bytes and text say how long they are.
        6 | 7 => 2 + usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)),
        // A UUID.
        9 => 16,
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(width)?;
    let text = match *kind {
        TEXT => Some(std::str::from_utf8(&value[2..]).ok()?),
        _ => None,
    };
    Some((name, text, rest))
}

/// Appends a frame with a JSON payload, which `payload` appends. `name` is the event's or the exception's.
pub(crate) fn write(kind: Kind, name: &str, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PRELUDE]);
    // The order in which Bedrock has them.
    let (naming, message) = match kind {
        Kind::Event => (":event-type", "event"),
        Kind::Exception => (":exception-type", "exception"),
        Kind::Error => (":error-code", "error"),
    };
    for (header, value) in [(naming, name), (":content-type", "application/json"), (":message-type", message)] {
        out.push(header.len() as u8);
        out.extend_from_slice(header.as_bytes());
        out.push(TEXT);
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    let headers = (out.len() - start - PRELUDE) as u32;
    payload(out);
    let total = (out.len() + 4 - start) as u32;
    out[start..start + 4].copy_from_slice(&total.to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&headers.to_be_bytes());
    let prelude = crc32fast::hash(&out[start..start + 8]);
    out[start + 8..start + PRELUDE].copy_from_slice(&prelude.to_be_bytes());
    let all = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&all.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::wire::base64;

    /// A frame that the Python test's own encoder made, and botocore's parser reads so.
    #[derive(Deserialize)]
    struct Golden {
        name: String,
        kind: String,
        event: String,
        message: String,
        content_type: String,
        payload: String,
        frame: String,
        /// Whether it has just what ours have.
        ours: bool,
    }

    fn golden() -> Vec<Golden> {
        let text = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/eventstream/frames.json"));
        serde_json::from_slice(&text.expect("the frames")).expect("frames")
    }

    fn kind(text: &str) -> Kind {
        match text {
            "exception" => Kind::Exception,
            "error" => Kind::Error,
            _ => Kind::Event,
        }
    }

    /// A frame: its name, its payload, its bytes.
    type Whole = (String, Vec<u8>, Vec<u8>);

    /// What comes out of these pieces.
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Whole>, Broken> {
        let (mut decoder, mut read) = (Decoder::new(1 << 20), Vec::new());
        for piece in pieces {
            decoder.push(piece);
            while let Some(frame) = decoder.next() {
                let frame = frame?;
                read.push((frame.name.to_owned(), frame.payload.to_vec(), frame.raw.to_vec()));
            }
        }
        Ok(read)
    }

    #[test]
    fn frames_that_botocore_reads_are_read_and_written_the_same_way() {
        let all = golden();
        assert!(all.len() >= 6);
        for wanted in all {
            let bytes = base64::decode(&wanted.frame).expect("base64");
            let mut decoder = Decoder::new(bytes.len());
            decoder.push(&bytes);
            let frame = decoder.next().expect("a frame").unwrap_or_else(|broken| panic!("{}: {broken}", wanted.name));
            let payload = base64::decode(&wanted.payload).expect("base64");
            let told = (frame.kind, frame.name, frame.message, frame.content_type, frame.payload);
            let expected = (kind(&wanted.kind), &*wanted.event, &*wanted.message, &*wanted.content_type, &*payload);
            assert_eq!(told, expected, "{}", wanted.name);
            if wanted.ours {
                let mut out = b"before".to_vec();
                write(kind(&wanted.kind), &wanted.event, &mut out, |out| out.extend_from_slice(&payload));
                assert_eq!(out[6..], bytes, "{}", wanted.name);
            }
        }
    }

    #[test]
    fn frames_are_the_same_wherever_the_bytes_are_cut() {
        let bytes: Vec<u8> =
            golden().iter().flat_map(|golden| base64::decode(&golden.frame).expect("base64")).collect();
        let whole = read([&*bytes].into_iter()).expect("good");
        assert_eq!(whole.iter().flat_map(|(_, _, raw)| raw.clone()).collect::<Vec<_>>(), bytes);
        for at in 0..bytes.len() {
            assert_eq!(read([&bytes[..at], &bytes[at..]].into_iter()).expect("good"), whole, "cut at {at}");
        }
        assert_eq!(read(bytes.chunks(1)).expect("good"), whole);
    }

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        write(Kind::Event, "contentBlockDelta", &mut out, |out| out.extend_from_slice(br#"{"delta":{"text":"hi"}}"#));
        out
    }

    #[test]
    fn no_changed_bit_goes_unseen_and_nothing_comes_after_it() {
        let good = sample();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let mut decoder = Decoder::new(1 << 20);
            decoder.push(&bad);
            decoder.push(&good);
            assert_eq!(decoder.next(), Some(Err(Broken::Checksum)), "bit {bit}");
            decoder.push(&good);
            assert_eq!(decoder.next(), None);
        }
    }

    /// A frame with good checksums of whatever it says.
    fn forged(total: u32, headers: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    #[test]
    fn lengths_and_headers_that_lie_are_told() {
        let one = |bytes: &[u8]| {
            let mut decoder = Decoder::new(1000);
            decoder.push(bytes);
            decoder.next().map(|frame| frame.map(|frame| frame.name.to_owned()))
        };
        assert_eq!(one(&forged(1001, 0, b"")), Some(Err(Broken::TooLong(1000))));
        assert_eq!(one(&forged(15, 0, b"")), Some(Err(Broken::Lengths)));
        assert_eq!(one(&forged(20, 5, b"1234")), Some(Err(Broken::Lengths)));
        assert_eq!(one(&forged(16, 0, b"")), Some(Ok(String::new())));
        for headers in [
            &b"\x00\x07"[..],
            b"\x01a\x07\x00\x05abc",
            b"\x01a\x0a",
            b"\x01a\x07\x00\x01\xff",
            b"\x09a",
            b"\x01a\x05\0",
        ] {
            let bytes = forged(16 + headers.len() as u32, headers.len() as u32, headers);
            assert_eq!(one(&bytes), Some(Err(Broken::Headers)), "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), forge in any::<bool>()) {
            let bytes = if forge { forged(16 + bytes.len() as u32, bytes.len() as u32, &bytes) } else { bytes };
            let mut decoder = Decoder::new(4096);
            decoder.push(&bytes);
            while let Some(Ok(_)) = decoder.next() {}
        }

        #[test]
        fn what_is_written_is_read(name in "[a-zA-Z]{1,40}", payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            write(Kind::Exception, &name, &mut out, |out| out.extend_from_slice(&payload));
            prop_assert_eq!(read(out.chunks(7)), Ok(vec![(name, payload, out.clone())]));
        }
    }
}
