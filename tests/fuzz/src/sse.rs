//! The decoder of server-sent events: nothing is lost, made up or said differently, however the bytes come.

use sluicegate::wire::sse::Decoder;

use crate::pieces::{pieces, split_off_cuts};

/// What an event says: its data, its name, whether it is a comment.
type Said = (Vec<u8>, Vec<u8>, bool);

/// Checks one input: cuts, a limit in one byte, then what a provider sent.
///
/// # Panics
/// If a property does not hold.
pub fn sse(bytes: &[u8]) {
    let (cuts, rest) = split_off_cuts(bytes);
    let Some((limit, text)) = rest.split_first() else { return };
    let whole = decode(&[text], usize::MAX).expect("no limit");
    let cut: Vec<_> = pieces(cuts, text).collect();
    assert_eq!(whole, decode(&cut, usize::MAX).expect("no limit"), "pieces make a difference");
    assert_eq!(whole, naive(text), "the standard reads it differently");
    // Under a limit the same comes out, up to what is too long.
    let limited = decode(&cut, usize::from(*limit));
    if let Err(before) = &limited {
        assert!(whole.starts_with(before), "{before:?} came out, {whole:?} would have without a limit");
    } else {
        assert_eq!(limited, Ok(whole));
    }
}

/// Every event of the stream, or those that came before one that was too long.
fn decode(pieces: &[&[u8]], limit: usize) -> Result<Vec<Said>, Vec<Said>> {
    let (mut decoder, mut said, mut raw) = (Decoder::new(limit), Vec::new(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        while let Some(event) = decoder.next() {
            let Ok(event) = event else {
                assert!(decoder.next().is_none(), "something comes after an event that was too long");
                return Err(said);
            };
            assert!(event.raw.len() <= limit, "an event is longer than the limit");
            raw.extend_from_slice(event.raw);
            said.push((event.data.to_vec(), event.name.to_vec(), event.is_comment));
        }
    }
    let sent = pieces.concat();
    assert!(sent.starts_with(&raw), "bytes were lost or made up");
    match decoder.finish() {
        Some(Ok(event)) => {
            raw.extend_from_slice(event.raw);
            let added = raw.strip_prefix(&sent[..]);
            assert!(matches!(added, Some(b"\n" | b"\n\n")), "the end has lost bytes or made some up: {added:?}");
            said.push((event.data.to_vec(), event.name.to_vec(), event.is_comment));
        }
        Some(Err(_)) => return Err(said),
        None => assert!(matches!(&sent[raw.len()..], [] | b"\n"), "the end was lost"),
    }
    assert!(decoder.finish().is_none() && decoder.next().is_none());
    Ok(said)
}

/// The standard's own words, line by line over the whole text; an end without a blank line is given one.
fn naive(text: &[u8]) -> Vec<Said> {
    let marked = text.strip_prefix(b"\xef\xbb\xbf");
    let text = marked.unwrap_or(text);
    let mut normal = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'\r' => normal.push(b'\n'),
            b'\n' if at > 0 && text[at - 1] == b'\r' => {}
            other => normal.push(*other),
        }
    }
    let (mut events, mut data, mut name) = (Vec::new(), Vec::<&[u8]>::new(), Vec::new());
    // A mark that stands alone is let through as a comment.
    let (mut is_left, mut lines) = (marked.is_some(), normal.split(|byte| *byte == b'\n').peekable());
    while let Some(line) = lines.next() {
        if line.is_empty() && lines.peek().is_some() {
            events.push((data.join(&b'\n'), std::mem::take(&mut name), data.is_empty()));
            data.clear();
            is_left = false;
            continue;
        } else if line.is_empty() {
            break;
        }
        is_left = true;
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => data.push(value),
            b"event" => name = value.to_vec(),
            _ => {}
        }
    }
    if is_left {
        events.push((data.join(&b'\n'), name, data.is_empty()));
    }
    events
}
