//! A request's head: the same in whatever pieces it comes, read as `httparse` reads it, and stricter in named ways only.

use super::framing::{Body, Framing};
use super::head::{Head, Scan, Version};
use super::refusal::Refusal;
use crate::pieces::{pieces, split_off_cuts};

/// The statuses that a head may be refused with.
const STATUSES: [u16; 5] = [400, 417, 431, 501, 505];

/// Checks one input: cuts, then what a client sent.
///
/// # Panics
/// If a property does not hold.
pub fn head(bytes: &[u8]) {
    let (cuts, text) = split_off_cuts(bytes);
    let whole = Scan::default().advance(text);
    let (mut scan, mut come, mut found) = (Scan::default(), 0, Ok(None));
    for piece in pieces(cuts, text) {
        come += piece.len();
        found = scan.advance(&text[..come]);
        if !matches!(found, Ok(None)) {
            break;
        }
    }
    match (&whole, &found) {
        (Ok(Some(one)), Ok(Some(many))) => assert_eq!(one, many, "the head ends elsewhere in pieces"),
        (Ok(None), Ok(None)) => {}
        // In pieces a bare CR may be known for one only when its line ends.
        (Err(one), Err(_) | Ok(None)) => assert!(STATUSES.contains(&one.status)),
        // In pieces a first line that begins no request is refused before the rest has come.
        (Ok(Some(range)), Err(early)) => {
            let late = Head::parse(&text[range.clone()]).err().map(|refusal| refusal.status);
            assert_eq!(late, Some(early.status), "refused in pieces alone");
        }
        _ => panic!("{whole:?} at once, {found:?} in pieces"),
    }
    if let Ok(Some(range)) = whole {
        let block = &text[range.clone()];
        assert!(text[..range.start].is_empty() || &text[..range.start] == b"\r\n", "it begins in the middle");
        assert!(block.ends_with(b"\r\n\r\n"));
        assert!(!block[..block.len() - 4].windows(4).any(|end| end == b"\r\n\r\n"), "an end was passed over");
        judge(block);
    }
}

/// What holds for a block that ends where a head does.
fn judge(block: &[u8]) {
    let parsed = Head::parse(block);
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut reference = httparse::Request::new(&mut slots);
    let known = matches!(reference.parse(block), Ok(httparse::Status::Complete(used)) if used == block.len());
    let head = match parsed {
        Ok(head) => head,
        Err(Refusal { status, .. }) => {
            assert!(STATUSES.contains(&status), "a head is refused with {status}");
            assert!(!(known && is_plain(&reference)), "a plain head is refused with {status}");
            return;
        }
    };
    assert!(known, "httparse does not take what we take");
    assert_eq!(Some(head.method()), reference.method);
    assert_eq!(Some(u8::from(head.version() == Version::Http11)), reference.version);
    let target = reference.path.expect("a target");
    let query = head.query().map_or(String::new(), |query| format!("?{query}"));
    let authority = String::from_utf8_lossy(head.authority().unwrap_or_default()).into_owned();
    if head.authority().is_none() {
        assert_eq!(target, format!("{}{query}", head.path()));
    } else {
        let rest = target.split_once("://").expect("an absolute form").1;
        // An empty path means the root (RFC 9112, section 3.2.2).
        let path = if rest[authority.len()..].starts_with('/') { head.path() } else { "" };
        assert_eq!(rest, format!("{authority}{path}{query}"));
    }
    let lines: Vec<_> = head.headers().collect();
    assert_eq!(lines, reference.headers.iter().map(|line| (line.name, line.value)).collect::<Vec<_>>());
    for (name, value) in &lines {
        assert!(!name.is_empty() && !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        let first = lines.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).expect("itself");
        assert_eq!(head.header(name), std::str::from_utf8(first.1).ok());
    }
    let framing = Framing::of(&head);
    check_framing(&head, &framing);
    let again = Head::parse(&write(&head, target)).expect("what was taken once is taken again");
    assert_eq!((again.method(), again.path(), again.query()), (head.method(), head.path(), head.query()));
    assert_eq!(again.headers().collect::<Vec<_>>(), lines);
    assert_eq!(Framing::of(&again).map_err(|refusal| refusal.status), framing.map_err(|refusal| refusal.status));
}

/// What no strictness can object to: a usual method, a path of usual characters, few lines.
fn is_plain(request: &httparse::Request<'_, '_>) -> bool {
    let usual = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.?=&%~".contains(&byte));
    matches!(request.method, Some("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "TRACE" | "PATCH"))
        && request.path.is_some_and(|path| path.starts_with('/') && usual(path))
        && request.headers.len() <= 100
}

/// The framing beside a naive count of the lines that speak of it.
fn check_framing(head: &Head, framing: &Result<Framing, Refusal>) {
    let values = |wanted: &str| -> Vec<&[u8]> {
        head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value).collect()
    };
    let (lengths, codings, hosts) = (values("content-length"), values("transfer-encoding"), values("host"));
    let framing = match framing {
        Ok(framing) => framing,
        Err(refusal) => return assert!(STATUSES.contains(&refusal.status), "framing refused with {}", refusal.status),
    };
    assert!(hosts.len() <= 1 && (hosts.len() == 1 || head.version() == Version::Http10));
    match framing.body {
        Body::Chunked => {
            assert!(lengths.is_empty() && head.version() == Version::Http11);
            assert!(matches!(codings[..], [coding] if coding.eq_ignore_ascii_case(b"chunked")));
        }
        Body::Length(length) => {
            assert!(codings.is_empty());
            match lengths[..] {
                [] => assert_eq!(length, 0),
                [text] => assert_eq!(text, length.to_string().as_bytes(), "a length that is not the number's one form"),
                _ => panic!("two lengths were taken"),
            }
        }
    }
    let says_close = values("connection")
        .iter()
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
    assert_eq!(framing.close, says_close || head.version() == Version::Http10);
}

/// The head written anew from its parts.
fn write(head: &Head, target: &str) -> Vec<u8> {
    let version = if head.version() == Version::Http11 { "1.1" } else { "1.0" };
    let mut text = format!("{} {target} HTTP/{version}\r\n", head.method()).into_bytes();
    for (name, value) in head.headers() {
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}
