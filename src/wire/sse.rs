//! Server-sent events out of bytes that come in any pieces.
//!
//! Lines end by LF, CR or CRLF; a byte order mark at the start is passed over; comments and blank lines come out as events
//! of their own. What comes out keeps its bytes: the [`Event::raw`] of all events one after the other are the bytes that
//! went in. An event allocates nothing (only `data` over several lines is put together in a buffer that is kept).
//!
//! A CR at the very end of what has come so far ends its line at once, for the LF that may follow may be long in coming;
//! if it comes, it stands at the front of the next event's `raw`, where a reader takes it for the rest of that line end.

use std::fmt;
use std::ops::Range;

use memchr::memchr2;

/// A comment that keeps a silent connection alive.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// What stays allocated between events, whatever came through.
const KEEP_CAPACITY: usize = 64 * 1024;

/// One event, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its bytes as they came, the blank line at its end included: forwarding them forwards the event.
    pub raw: &'a [u8],
    /// Its `data`, lines joined by LF; empty if it has none.
    pub data: &'a [u8],
    /// Its `event` field; empty if it has none.
    pub name: &'a [u8],
    /// Whether it says nothing to a reader: comments, blank lines, fields without `data`.
    pub is_comment: bool,
}

/// An event grew past the limit; nothing more comes out of its decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The limit in bytes.
    pub limit: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an event of the stream is longer than {} bytes", self.limit)
    }
}

impl std::error::Error for TooLong {}

/// Appends what came to what is still to be read, which begins at `start`: what was read goes first where there is no room.
pub(in crate::wire) fn append(buffer: &mut Vec<u8>, start: &mut usize, bytes: &[u8]) {
    if *start == buffer.len() {
        buffer.clear();
        buffer.shrink_to(KEEP_CAPACITY);
        *start = 0;
    } else if *start > 0 && buffer.len() + bytes.len() > buffer.capacity() {
        buffer.drain(..*start);
        *start = 0;
    }
    buffer.extend_from_slice(bytes);
}

/// Appends an event of this name, which may be empty, and data, which is one line.
pub(crate) fn write(name: &[u8], data: &[u8], out: &mut Vec<u8>) {
    // A plugin may have given it: what follows a line's end would be a field, or an event, of its own.
    let name = name.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    if !name.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name);
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

/// Cuts a stream of bytes into events. Holds at most one unfinished event and what was pushed and not yet taken out.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    buffer: Vec<u8>,
    /// Where the event under way begins in `buffer`; everything below counts from here.
    start: usize,
    /// Where its current line begins.
    line: usize,
    /// How far that line was searched for its end.
    searched: usize,
    /// The last line ended by a CR at the end of what had come: an LF here belongs to it.
    after_cr: bool,
    /// Nothing but a byte order mark can stand before here: only before the stream's first line.
    at_stream_start: bool,
    fields: Fields,
    /// `data` over several lines.
    joined: Vec<u8>,
    /// Nothing more comes out: an event was too long, or the stream has ended.
    ended: bool,
}

/// What the lines of the event under way said.
#[derive(Debug, Default)]
struct Fields {
    data: Option<Range<usize>>,
    data_lines: usize,
    name: Option<Range<usize>>,
}

impl Decoder {
    /// A decoder that refuses an event of more than `max_event_bytes`, its blank line included.
    #[must_use]
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            limit: max_event_bytes,
            buffer: Vec::new(),
            start: 0,
            line: 0,
            searched: 0,
            after_cr: false,
            at_stream_start: true,
            fields: Fields::default(),
            joined: Vec::new(),
            ended: false,
        }
    }

    /// Takes what came. Call [`next`](Self::next) until it has nothing more before pushing again: that bounds the memory.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.ended {
            return;
        }
        append(&mut self.buffer, &mut self.start, bytes);
    }

    /// The next whole event; `None` until more is pushed.
    #[expect(clippy::should_implement_trait, reason = "an event borrows the decoder, which an Iterator cannot say")]
    pub fn next(&mut self) -> Option<Result<Event<'_>, TooLong>> {
        if self.ended { None } else { self.advance() }
    }

    /// The stream has ended: what was left without a blank line comes out as a last event, with one added.
    ///
    /// Some providers end `data: [DONE]` with one line end or none. Half a JSON text is no JSON, so a stream that was cut
    /// in an event is not taken for a whole one by this.
    pub fn finish(&mut self) -> Option<Result<Event<'_>, TooLong>> {
        // An LF alone is the rest of a line end whose CR was given out.
        if self.ended || matches!(self.buffer[self.start..], [] | [b'\n']) {
            return None;
        }
        self.push(b"\n\n");
        self.ended = true;
        self.advance()
    }

    fn advance(&mut self) -> Option<Result<Event<'_>, TooLong>> {
        let end = loop {
            let pending = &self.buffer[self.start..];
            if self.after_cr && self.line < pending.len() {
                self.after_cr = false;
                if pending[self.line] == b'\n' {
                    self.line += 1;
                    self.searched = self.searched.max(self.line);
                }
            }
            let Some(offset) = memchr2(b'\n', b'\r', &pending[self.searched..]) else {
                self.searched = pending.len();
                break None;
            };
            let line_end = self.searched + offset;
            let mut next_line = line_end + 1;
            if pending[line_end] == b'\r' {
                match pending.get(next_line) {
                    Some(b'\n') => next_line += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            let mut from = self.line;
            if std::mem::take(&mut self.at_stream_start) && pending.starts_with(b"\xef\xbb\xbf") {
                from += 3;
            }
            (self.line, self.searched) = (next_line, next_line);
            if from == line_end {
                break Some(next_line);
            }
            self.fields.take_line(pending, from..line_end, &mut self.joined);
            if next_line > self.limit {
                break None;
            }
        };
        let length = end.unwrap_or(self.buffer.len() - self.start);
        if length > self.limit {
            self.ended = true;
            (self.buffer, self.joined) = (Vec::new(), Vec::new());
            return Some(Err(TooLong { limit: self.limit }));
        }
        end.map(|end| Ok(self.take_event(end)))
    }

    fn take_event(&mut self, end: usize) -> Event<'_> {
        let raw = &self.buffer[self.start..self.start + end];
        let fields = std::mem::take(&mut self.fields);
        let part = |range: Option<Range<usize>>| range.map_or(&raw[..0], |range| &raw[range]);
        let is_comment = fields.data_lines == 0;
        let data = if fields.data_lines > 1 { &self.joined[..] } else { part(fields.data) };
        let name = part(fields.name);
        self.start += end;
        (self.line, self.searched) = (0, 0);
        Event { raw, data, name, is_comment }
    }
}

impl Fields {
    fn take_line(&mut self, pending: &[u8], line: Range<usize>, joined: &mut Vec<u8>) {
        let text = &pending[line.clone()];
        let (name_length, value_start) = match memchr::memchr(b':', text) {
            Some(colon) if text.get(colon + 1) == Some(&b' ') => (colon, colon + 2),
            Some(colon) => (colon, colon + 1),
            None => (text.len(), text.len()),
        };
        let value = line.start + value_start..line.end;
        match &text[..name_length] {
            b"data" => {
                self.data_lines += 1;
                match self.data_lines {
                    1 => self.data = Some(value),
                    2 => {
                        joined.clear();
                        joined.shrink_to(KEEP_CAPACITY);
                        joined.extend_from_slice(&pending[self.data.clone().unwrap_or_default()]);
                        joined.push(b'\n');
                        joined.extend_from_slice(&pending[value]);
                    }
                    _ => {
                        joined.push(b'\n');
                        joined.extend_from_slice(&pending[value]);
                    }
                }
            }
            b"event" => self.name = Some(value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What one event says, owned: raw, data, name, is_comment.
    type Said = (Vec<u8>, Vec<u8>, Vec<u8>, bool);

    fn said(event: &Event<'_>) -> Said {
        (event.raw.to_vec(), event.data.to_vec(), event.name.to_vec(), event.is_comment)
    }

    fn decode(pieces: &[&[u8]], limit: usize) -> (Vec<Said>, bool) {
        let mut decoder = Decoder::new(limit);
        let mut events = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(event) = decoder.next() {
                match event {
                    Ok(event) => events.push(said(&event)),
                    Err(_) => return (events, true),
                }
            }
        }
        (events, false)
    }

    /// The standard's own words, line by line over the whole text; nothing incremental, nothing clever.
    fn naive(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut normal = Vec::new();
        for (at, byte) in text.iter().enumerate() {
            match byte {
                b'\r' => normal.push(b'\n'),
                b'\n' if at > 0 && text[at - 1] == b'\r' => {}
                other => normal.push(*other),
            }
        }
        let mut events = Vec::new();
        let (mut data, mut name): (Vec<Vec<u8>>, Vec<u8>) = (Vec::new(), Vec::new());
        let mut lines: Vec<&[u8]> = normal.split(|b| *b == b'\n').collect();
        lines.pop();
        for line in lines {
            if line.is_empty() {
                events.push((data.join(&b'\n'), std::mem::take(&mut name), data.is_empty()));
                data.clear();
                continue;
            }
            let mut parts = line.splitn(2, |b| *b == b':');
            let field = parts.next().unwrap_or_default();
            let value = parts.next().unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
            match field {
                b"data" => data.push(value),
                b"event" => name = value,
                _ => {}
            }
        }
        events
    }

    #[test]
    fn an_event_keeps_its_bytes_and_says_its_data() {
        let text: &[u8] = b"\xef\xbb\xbf: hi\n\nevent: ping\r\ndata: a\r\ndata:b\r\ndata\r\n\r\nid: 1\rdata:  c\r\r";
        let (events, _) = decode(&[text], 1024);
        let short: Vec<_> = events.iter().map(|(_, data, name, comment)| (&data[..], &name[..], *comment)).collect();
        assert_eq!(short, [(&b""[..], &b""[..], true), (b"a\nb\n", b"ping", false), (b" c", b"", false)]);
        assert_eq!(events.iter().flat_map(|event| event.0.clone()).collect::<Vec<_>>(), text);
    }

    #[test]
    fn an_event_that_ends_by_cr_comes_out_before_its_lf() {
        let mut decoder = Decoder::new(64);
        decoder.push(b"data: a\r\n\r");
        assert_eq!(decoder.next().expect("whole").expect("short").data, b"a");
        decoder.push(b"\n");
        assert!(decoder.next().is_none(), "the LF is the rest of a line end, no line");
        decoder.push(b"data: b\n\n");
        let event = decoder.next().expect("whole").expect("short");
        assert_eq!((event.raw, event.data), (&b"\ndata: b\n\n"[..], &b"b"[..]));
        let mut ends = Decoder::new(64);
        ends.push(b"data: a\r\n\r");
        assert!(ends.next().is_some());
        ends.push(b"\n");
        assert!(ends.next().is_none());
        assert!(ends.finish().is_none());
    }

    #[test]
    fn an_event_past_the_limit_fails_the_decoder_finished_or_not() {
        let whole: &[u8] = b"data: 0123456789\n\n";
        assert_eq!(decode(&[whole], whole.len()).0.len(), 1);
        assert_eq!(decode(&[whole], whole.len() - 1), (Vec::new(), true));
        assert_eq!(decode(&[&b"data: ".repeat(20)[..]], 32), (Vec::new(), true));
        let mut decoder = Decoder::new(4);
        decoder.push(b"data: too long");
        assert_eq!(decoder.next(), Some(Err(TooLong { limit: 4 })));
        decoder.push(b"\n\n\n\n");
        assert_eq!(decoder.next(), None);
        assert_eq!(decoder.finish(), None);
    }

    #[test]
    fn a_last_event_without_its_blank_line_comes_out_at_the_end() {
        for text in ["data: [DONE]", "data: [DONE]\n", "data: [DONE]\r", "data: [DONE]\r\n"] {
            let mut decoder = Decoder::new(64);
            decoder.push(text.as_bytes());
            assert!(decoder.next().is_none());
            let event = decoder.finish().expect("it is left").expect("short");
            assert_eq!(event.data, b"[DONE]", "{text:?}");
            assert!(decoder.finish().is_none(), "{text:?}");
        }
        assert!(Decoder::new(64).finish().is_none());
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            4 => Just(&b"\n"[..]), 2 => Just(&b"\r"[..]), 3 => Just(&b"\r\n"[..]), 3 => Just(&b"data:"[..]),
            2 => Just(&b"data: "[..]), 1 => Just(&b"data"[..]), 1 => Just(&b"event: "[..]), 1 => Just(&b"id:1"[..]),
            1 => Just(&b": "[..]), 3 => Just(&b"{\"a\":1}"[..]), 2 => Just(&b"x y"[..]), 1 => Just(&b"\xef\xbb\xbf"[..]),
        ];
        prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn it_says_what_a_naive_decoder_says(text in stream()) {
            let (events, _) = decode(&[&text], 4096);
            let short: Vec<_> = events.iter().map(|(_, data, name, comment)| (data.clone(), name.clone(), *comment)).collect();
            prop_assert_eq!(short, naive(&text));
            let raw: Vec<u8> = events.iter().flat_map(|event| event.0.clone()).collect();
            prop_assert!(text.starts_with(&raw), "nothing is lost or made up");
        }

        #[test]
        fn splitting_at_any_byte_changes_nothing_that_is_said(text in stream(), cuts in prop::collection::vec(0..200usize, 0..6)) {
            let (whole, _) = decode(&[&text], 4096);
            let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                pieces.push(&text[from..cut]);
                from = cut;
            }
            let (split, _) = decode(&pieces, 4096);
            let without_raw = |events: &[Said]| events.iter().map(|e| (e.1.clone(), e.2.clone(), e.3)).collect::<Vec<_>>();
            prop_assert_eq!(without_raw(&split), without_raw(&whole));
            let raw = |events: &[Said]| events.iter().flat_map(|event| event.0.clone()).collect::<Vec<u8>>();
            // An LF that came after its CR was given out stands before the next event, so at most it is missing at the end.
            let (split_raw, whole_raw) = (raw(&split), raw(&whole));
            prop_assert!(whole_raw == split_raw || whole_raw == [split_raw, b"\n".to_vec()].concat());
            let single: Vec<&[u8]> = text.chunks(1).collect();
            prop_assert_eq!(without_raw(&decode(&single, 4096).0), without_raw(&whole));
        }
    }
}
