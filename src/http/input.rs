//! The one buffer of a connection: what was read and not used yet, and, while that is nothing, room to write an answer.
//!
//! A connection in use has one small buffer for both directions, and a parked one has none: thousands of waiting
//! requests or idle connections must not hold a read buffer each (P2).

/// The size of a fresh buffer: most heads fit, with a short body. What is longer goes where it belongs at once: a body
/// of known length is read straight into the request's own memory.
const FRESH: usize = 4096;

/// The largest buffer kept for further use; one that grew past it is freed.
pub(super) const KEPT: usize = 16 << 10;

/// Bytes read and not used yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Written with zeros once, so that it can be read into; the bytes at `start..end` are not used yet.
    data: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// What is not used yet.
    pub(super) fn pending(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// Whether everything is used.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Where more can be read to, at least a byte, so that at most about `most` bytes are pending; after it, `filled`.
    pub(super) fn space(&mut self, most: usize) -> &mut [u8] {
        if self.data.is_empty() {
            self.data.resize(FRESH, 0);
        }
        if self.end == self.data.len() {
            if self.start > 0 {
                self.data.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                let grown = (self.data.len() * 2).max(FRESH).min(most.max(self.data.len() + 1));
                self.data.resize(grown, 0);
            }
        }
        &mut self.data[self.end..]
    }

    /// Makes the buffer `size` bytes long, if nothing is pending in it.
    pub(super) fn enlarge(&mut self, size: usize) {
        if self.is_empty() && self.data.len() < size {
            self.data.resize(size, 0);
        }
    }

    /// `n` bytes were read into what `space` gave.
    pub(super) fn filled(&mut self, n: usize) {
        self.end += n;
    }

    /// The first `n` pending bytes are used.
    pub(super) fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end, "consumed more than was pending");
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// An empty vector to write an answer into: the buffer itself if nothing is pending in it, else a fresh one.
    pub(super) fn lend(&mut self) -> Vec<u8> {
        if !self.is_empty() {
            return Vec::new();
        }
        let mut lent = std::mem::take(&mut self.data);
        lent.clear();
        lent
    }

    /// Takes back what was lent, or any other vector, as the buffer.
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        if self.data.is_empty() && (FRESH..=KEPT).contains(&buffer.capacity()) {
            buffer.resize(buffer.capacity(), 0);
            self.data = buffer;
        }
    }

    /// Keeps no more memory than what is pending: for a connection that waits in the middle of a head.
    pub(super) fn compact(&mut self) {
        self.data = self.pending().to_vec();
        (self.start, self.end) = (0, self.data.len());
    }

    /// Gives the buffer up if nothing is pending in it.
    pub(super) fn release(&mut self) -> Option<Vec<u8>> {
        self.is_empty().then(|| std::mem::take(&mut self.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(input: &mut Input, bytes: &[u8]) {
        for byte in bytes {
            input.space(1 << 20)[0] = *byte;
            input.filled(1);
        }
    }

    #[test]
    fn bytes_come_out_in_order_however_they_are_read_and_used() {
        let mut input = Input::default();
        let bytes: Vec<u8> = (0..3 * FRESH).map(|i| (i % 251) as u8).collect();
        let mut seen = Vec::new();
        for part in bytes.chunks(700) {
            put(&mut input, part);
            let used = input.pending().len() / 2;
            seen.extend_from_slice(&input.pending()[..used]);
            input.consume(used);
        }
        seen.extend_from_slice(input.pending());
        assert_eq!(seen, bytes);
    }

    #[test]
    fn what_is_pending_survives_a_write() {
        let mut input = Input::default();
        put(&mut input, b"GET");
        let mut lent = input.lend();
        lent.extend_from_slice(b"an answer");
        input.give(lent);
        assert_eq!(input.pending(), b"GET");
        assert!(input.release().is_none(), "it is still needed");
        input.consume(3);
        let lent = input.lend();
        assert!(lent.is_empty() && lent.capacity() >= FRESH, "the buffer itself serves for writing");
        input.give(lent);
        assert!(input.space(FRESH).len() >= FRESH, "and for reading again");
    }

    #[test]
    fn who_waits_with_a_few_bytes_holds_no_more_than_them_and_reads_on_in_large_steps() {
        let mut input = Input::default();
        put(&mut input, b"used GET");
        input.consume(5);
        input.compact();
        assert_eq!((input.pending(), input.data.capacity()), (&b"GET"[..], 3));
        assert!(input.space(1 << 20).len() >= FRESH - 3);
        assert_eq!(input.pending(), b"GET");
        input.consume(3);
        input.compact();
        assert_eq!((input.is_empty(), input.data.capacity()), (true, 0));
    }

    #[test]
    fn a_buffer_that_grew_is_not_kept() {
        let mut input = Input::default();
        input.give(vec![0; KEPT + 1]);
        assert_eq!(input.release().map(|buffer| buffer.len()), Some(0));
    }
}
