//! AWS's event streams, and Converse's in them: whole frames pass as they came, wherever the bytes are cut, and what is made of
//! a stream in another shape is a stream of that shape.

use sluicegate::wire::pairs::{Pair, Shape, Stream};

/// How many places a text is cut at, one after the other.
const CUTS: usize = 4;

/// The events that Converse knows, and one that it does not.
const NAMES: [&str; 7] = [
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
    "newerThanThis",
];

/// What came of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    out: Vec<u8>,
    /// Something was left out of a stream that did not fail.
    garbage: bool,
    failed: Option<(u16, String)>,
    complete: bool,
}

/// Checks one input: a byte for how it is meant, then what a provider sent. It is frames as they stand, or lines of which each is
/// the payload of a frame that is made for it: its first byte says what it is called.
///
/// # Panics
/// If a property does not hold.
pub fn frames(bytes: &[u8]) {
    let Some((meant, text)) = bytes.split_first() else { return };
    let sent = if meant & 1 == 1 { framed(text) } else { text.to_vec() };
    passes(&sent);
    for client in [Shape::OpenAi, Shape::Anthropic, Shape::Bedrock] {
        translates(Pair { client, provider: Shape::Bedrock }, &sent);
    }
}

/// The bytes that pass are whole frames, all of those that the second opinion finds up to what is wrong.
fn passes(sent: &[u8]) {
    let told = feed(Shape::Bedrock.passing(), &[sent]);
    cut(sent, &told, || Shape::Bedrock.passing());
    let single: Vec<_> = sent.chunks(1).collect();
    assert_eq!(told, feed(Shape::Bedrock.passing(), &single), "byte by byte");
    let whole = whole(sent);
    assert!(told.garbage || told.failed.is_some() || told.out == sent[..whole], "bytes were lost or made up");
    assert!(told.out.len() <= whole, "half a frame has passed");
    let mut at = 0;
    while at < told.out.len() {
        let length = whole_one(&told.out[at..]).expect("what has passed is frames");
        at += length;
    }
}

/// What a translation makes of a stream, the client's own shape reads again: as much of it, and with the same end.
fn translates(pair: Pair, sent: &[u8]) {
    let told = feed(pair.stream(), &[sent]);
    cut(sent, &told, || pair.stream());
    if told.failed.is_some() || !told.complete {
        return;
    }
    let mut stream = pair.stream();
    let mut out = Vec::new();
    stream.feed(sent, &mut out).expect("it was good before");
    stream.finish(&mut out);
    let again = feed(pair.client.passing(), &[&out]);
    assert!(again.failed.is_none() && !again.garbage && again.complete, "{again:?} of {:?}", String::from_utf8_lossy(&out));
}

/// The same comes out wherever the bytes are cut.
fn cut(sent: &[u8], told: &Told, stream: impl Fn() -> Stream) {
    for at in (0..sent.len()).step_by(1 + sent.len() / CUTS) {
        let (before, after) = sent.split_at(at);
        assert_eq!(*told, feed(stream(), &[before, after]), "cut at {at}");
    }
}

fn feed(mut stream: Stream, pieces: &[&[u8]]) -> Told {
    let mut told = Told { out: Vec::new(), garbage: false, failed: None, complete: false };
    for piece in pieces {
        match stream.feed(piece, &mut told.out) {
            Ok(good) => told.garbage |= !good,
            Err(error) => {
                assert!(error.status() >= 400 && !error.message().is_empty() && error.message().len() <= 16 << 10);
                told.failed = Some((error.status(), error.message().to_owned()));
                // What was left out of the same piece nobody has heard of.
                told.garbage = false;
                break;
            }
        }
    }
    told.complete = stream.is_complete();
    told
}

/// Lines as the payloads of frames.
fn framed(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Some((named, payload)) = line.split_first() else { continue };
        let (kind, naming, name) = match usize::from(named % 9) {
            7 => ("exception", ":exception-type", "throttlingException"),
            8 => ("error", ":error-code", "InternalError"),
            number => ("event", ":event-type", NAMES[number]),
        };
        let mut headers = Vec::new();
        for (header, value) in [(naming, name), (":message-type", kind)] {
            headers.push(header.len() as u8);
            headers.extend_from_slice(header.as_bytes());
            headers.push(7);
            headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
            headers.extend_from_slice(value.as_bytes());
        }
        let start = out.len();
        out.extend_from_slice(&((headers.len() + payload.len() + 16) as u32).to_be_bytes());
        out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        out.extend_from_slice(&checksum(&out[start..]).to_be_bytes());
        out.extend_from_slice(&headers);
        out.extend_from_slice(payload);
        out.extend_from_slice(&checksum(&out[start..]).to_be_bytes());
    }
    out
}

/// How many of the bytes are whole frames with good checksums, counted from the first.
fn whole(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = whole_one(&bytes[at..]) {
        at += length;
    }
    at
}

/// The length of the first frame, if it is whole and its checksums are good.
fn whole_one(bytes: &[u8]) -> Option<usize> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let (total, headers) = (word(0)? as usize, word(4)? as usize);
    let fits = word(8)? == checksum(&bytes[..8]) && total >= 16 && headers <= total - 16 && bytes.len() >= total;
    (fits && word(total - 4)? == checksum(&bytes[..total - 4])).then_some(total)
}

/// CRC-32 as its definition has it, a bit at a time.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
    })
}
