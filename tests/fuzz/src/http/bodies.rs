//! A chunked body: the same in whatever pieces it comes, and never what a strict reading of RFC 9112 refuses.

use super::chunked::Chunked;
use crate::pieces::{pieces, split_off_cuts};

/// What a decoder made of an input: the body, how much was used, whether it is over; or the status of its refusal.
type Outcome = Result<(Vec<u8>, usize, bool), u16>;

/// Checks one input: cuts, the longest body in two bytes, then what a client sent.
///
/// # Panics
/// If a property does not hold.
pub fn chunked(bytes: &[u8]) {
    let (cuts, rest) = split_off_cuts(bytes);
    let Some((most, text)) = rest.split_first_chunk::<2>() else { return };
    let most = usize::from(u16::from_be_bytes(*most));
    let whole = decode(&[text], most);
    let pieced = decode(&pieces(cuts, text).collect::<Vec<_>>(), most);
    assert_eq!(whole, pieced, "pieces make a difference");
    if let Ok((body, used, _)) = &whole {
        assert!(body.len() <= most.min(*used) && *used <= text.len(), "more came out than went in or is allowed");
    }
    let expected = strict(text, most);
    match (&whole, &expected) {
        (Ok((body, used, true)), Some((strict_body, strict_used))) => {
            assert_eq!((body, used), (strict_body, strict_used));
        }
        (Ok((.., false)) | Err(_), None) => {}
        _ => panic!("{whole:?}, but read strictly {expected:?}"),
    }
}

fn decode(pieces: &[&[u8]], most: usize) -> Outcome {
    let (mut decoder, mut body, mut used) = (Chunked::new(most), Vec::new(), 0);
    for piece in pieces {
        let taken = decoder.decode(piece, &mut body).map_err(|refusal| refusal.status)?;
        used += taken;
        if decoder.is_done() {
            break;
        }
        assert_eq!(taken, piece.len(), "bytes were left although the body goes on");
    }
    Ok((body, used, decoder.is_done()))
}

/// RFC 9112, section 7.1, over the whole text at once: the body and its length as sent, if it is whole and right.
fn strict(text: &[u8], most: usize) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut body, mut extensions) = (0, Vec::new(), 0);
    loop {
        let line = line(text, &mut at)?;
        let (digits, extension) = match line.iter().position(|byte| *byte == b';') {
            Some(semicolon) => (&line[..semicolon], &line[semicolon + 1..]),
            None => (line, &b""[..]),
        };
        extensions += extension.len();
        if !(1..=16).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) || extensions > 4 << 10 {
            return None;
        }
        let size = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        // A second opinion on the size line, from those who wrote httparse.
        let judged = httparse::parse_chunk_size(&text[at - line.len() - 2..at]);
        assert!(matches!(judged, Ok(httparse::Status::Complete((_, theirs))) if theirs == size), "{judged:?}");
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).ok().filter(|size| *size <= most - body.len())?;
        body.extend_from_slice(text.get(at..at.checked_add(size)?)?);
        at += size;
        if text.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    let mut trailers = 0;
    loop {
        let line = line(text, &mut at)?;
        if line.is_empty() {
            return Some((body, at));
        }
        trailers += line.len();
        let name = &line[..line.iter().position(|byte| *byte == b':')?];
        let lower = name.to_ascii_lowercase();
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let framing = [&b"content-length"[..], b"transfer-encoding", b"host", b"trailer"].contains(&&lower[..]);
        if name.is_empty() || !name.iter().all(token) || framing || trailers > 8 << 10 {
            return None;
        }
    }
}

/// The next line without its CRLF, if it has one and no control character.
fn line<'a>(text: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = &text[*at..];
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    *at += end + 2;
    line.iter().all(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f)).then_some(line)
}
