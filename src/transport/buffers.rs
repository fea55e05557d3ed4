//! What was received and not consumed, and what is held back to be sent in one piece.
//!
//! Thousands of connections exist at once, so both buffers start small, grow when that saves system calls, and shrink
//! before a connection goes idle (I4).

/// The largest head of an answer.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// What an input buffer starts with, and what an idle connection may keep of each buffer.
const SMALL: usize = 4 * 1024;

/// Up to where an input buffer grows because reads fill it, and the most that is sent at once.
const LARGE: usize = 16 * 1024;

/// Received bytes: `buf[start..end]` is not consumed yet.
#[derive(Default)]
pub(super) struct Input {
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether a look at the bytes is worth it: some came, or were used, since the last one.
    progress: bool,
    /// Whether the last read filled all the room it had.
    filled_up: bool,
}

impl Input {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    pub(super) fn can_use(&self) -> bool {
        self.progress && self.start < self.end
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.progress = n > 0;
        self.start = (self.start + n).min(self.end);
    }

    /// Room for more; empty when [`MAX_HEAD`] unconsumed bytes are held already.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buf.is_empty() {
                self.buf.resize(SMALL, 0);
            } else if self.filled_up && self.buf.len() < LARGE {
                self.buf.resize(self.buf.len() * 2, 0);
            }
        } else if self.end == self.buf.len() {
            if self.start > 0 {
                self.buf.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else if self.buf.len() < MAX_HEAD {
                self.buf.resize(self.buf.len() * 2, 0);
            }
        }
        &mut self.buf[self.end..]
    }

    pub(super) fn filled(&mut self, n: usize) {
        self.end = (self.end + n).min(self.buf.len());
        self.progress = true;
        self.filled_up = self.end == self.buf.len();
    }

    fn shrink(&mut self) {
        if self.buf.len() > SMALL {
            *self = Self::default();
        }
    }
}

/// Bytes to be sent: `buf[..held]` waits for the rest, so that a small request leaves in one piece.
#[derive(Default)]
pub(super) struct Output {
    buf: Vec<u8>,
    held: usize,
}

impl Output {
    /// Makes room for a head, which is written at once, and for as much of the body as is sent with it.
    pub(super) fn prepare(&mut self, head_bytes: usize, body_bytes: usize) {
        let wanted = head_bytes.saturating_add(body_bytes).min(LARGE.max(head_bytes));
        if self.buf.len() < wanted {
            self.buf.resize(wanted, 0);
        }
        self.held = 0;
    }

    /// The room behind what is held.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.buf[self.held..]
    }

    /// Holds `n` more bytes of the room; `true` if there is none left and what is held must go.
    pub(super) fn hold(&mut self, n: usize) -> bool {
        self.held = (self.held + n).min(self.buf.len());
        self.held == self.buf.len()
    }

    /// Holds the `n` bytes of a head, with `lines` before the empty line that ends it; as [`hold`](Self::hold), and `None` if
    /// these are no whole head or there is no room.
    pub(super) fn hold_head(&mut self, n: usize, lines: &[u8]) -> Option<bool> {
        let end = self.held.checked_add(n)?;
        let head = self.buf.get(self.held..end)?;
        if !head.ends_with(b"\r\n\r\n") || end + lines.len() > self.buf.len() {
            return None;
        }
        let at = end - 2;
        self.buf.copy_within(at..end, at + lines.len());
        self.buf[at..at + lines.len()].copy_from_slice(lines);
        Some(self.hold(n + lines.len()))
    }

    pub(super) fn holds_any(&self) -> bool {
        self.held > 0
    }

    /// What is held, to be sent now.
    pub(super) fn take(&mut self) -> &[u8] {
        let held = std::mem::take(&mut self.held);
        &self.buf[..held]
    }

    /// Gives back what a small request does not need: sending is over, and an answer may take minutes.
    pub(super) fn shrink(&mut self) {
        if self.buf.len() > SMALL {
            self.buf = Vec::new();
        }
    }
}

/// Both buffers of a connection.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) input: Input,
    pub(super) output: Output,
}

impl Buffers {
    /// Readies them for an idle connection.
    pub(super) fn shrink(&mut self) {
        self.input.shrink();
        self.output.shrink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(input: &mut Input, bytes: usize) {
        let mut left = bytes;
        while left > 0 {
            let n = input.room().len().min(left);
            assert!(n > 0, "no room for {left} more");
            input.filled(n);
            left -= n;
        }
    }

    #[test]
    fn an_input_grows_with_what_is_not_consumed_and_stops_at_the_largest_head() {
        let mut input = Input::default();
        fill(&mut input, MAX_HEAD);
        assert!(input.room().is_empty());
        input.consume(1);
        assert_eq!(input.room().len(), 1, "what was consumed makes room");
        input.consume(MAX_HEAD);
        input.shrink();
        assert_eq!(input.room().len(), SMALL);
    }

    #[test]
    fn reads_that_fill_the_room_make_it_larger() {
        let mut input = Input::default();
        for expected in [SMALL, 2 * SMALL, LARGE, LARGE] {
            let room = input.room().len();
            assert_eq!(room, expected);
            input.filled(room);
            input.consume(room);
        }
        assert_eq!(input.room().len(), LARGE);
        input.filled(10);
        input.consume(10);
        assert!(!input.can_use());
        input.filled(10);
        input.consume(0);
        assert!(!input.can_use(), "what was looked at in vain needs more bytes");
    }

    #[test]
    fn header_lines_stand_before_the_empty_line_of_a_whole_head() {
        let mut output = Output::default();
        output.prepare(40, 4);
        let mut hold = |head: &[u8], lines: &[u8]| {
            output.room()[..head.len()].copy_from_slice(head);
            let held = output.hold_head(head.len(), lines);
            (held, output.take().to_vec())
        };
        assert_eq!(hold(b"GET /\r\nh: x\r\n\r\n", b"a: b\r\n").1, b"GET /\r\nh: x\r\na: b\r\n\r\n");
        assert_eq!(hold(b"GET /\r\nh: x\r\n", b"a: b\r\n").0, None, "no whole head");
        assert_eq!(hold(b"GET /\r\nh: x\r\n\r\n", &[b' '; 40]).0, None, "no room");
    }

    #[test]
    fn a_small_request_is_held_whole_and_a_large_one_goes_in_pieces() {
        let mut output = Output::default();
        output.prepare(300, 1000);
        assert!(!output.hold(250));
        assert!(!output.hold(1000));
        assert_eq!(output.take().len(), 1250);
        output.prepare(300, 1_000_000);
        assert_eq!(output.room().len(), LARGE);
        output.hold(250);
        let room = output.room().len();
        assert!(output.hold(room), "full");
        assert_eq!(output.take().len(), LARGE);
        assert_eq!(output.room().len(), LARGE);
    }
}
