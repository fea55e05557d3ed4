//! An answer's head: whatever its headers hold, it is one head with those lines and no other.

use super::response::{Ending, Response};

/// Checks that the answer's head is one head, whose lines are those that were asked for, in their order.
///
/// # Panics
/// If a line breaks out of its place, or framing is not the server's own.
pub(crate) fn response_head(response: &Response, ending: u8, close: bool) {
    let ending = [Ending::Length, Ending::Chunks, Ending::Close][usize::from(ending) % 3];
    let mut out = Vec::new();
    response.write_head(ending, close, 784_111_777, &mut out);
    let mut slots = [httparse::EMPTY_HEADER; 256];
    let mut read = httparse::Response::new(&mut slots);
    let status = read.parse(&out).expect("a head that others read");
    assert_eq!(status, httparse::Status::Complete(out.len()), "the head ends before its end");
    let asked = |name: &str| response.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).count();
    for line in &*read.headers {
        let count = read.headers.iter().filter(|other| other.name.eq_ignore_ascii_case(line.name)).count();
        match line.name.to_ascii_lowercase().as_str() {
            "content-length" | "transfer-encoding" | "connection" | "date" => assert_eq!(count, 1, "said twice"),
            _ => assert_eq!(count, asked(line.name), "{} was not asked for so often", line.name),
        }
        assert!(!line.value.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f));
    }
    let has = |name: &str| read.headers.iter().any(|line| line.name.eq_ignore_ascii_case(name));
    assert_eq!(has("content-length"), ending == Ending::Length && response.may_have_body());
    assert_eq!(has("transfer-encoding"), ending == Ending::Chunks && response.may_have_body());
    assert_eq!(has("connection"), close);
}
