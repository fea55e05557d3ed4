//! How an input says by itself into which pieces it is to be cut.

/// The most bytes of an input that are used for cutting: what follows them is the text.
const MOST_CUTS: usize = 8;

/// Takes the cuts off the front of an input, which are the bytes before its first `0xFF` among the first few. A text
/// without that byte there is a text alone, so that a seed can be written by hand.
pub(crate) fn split_off_cuts(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().take(MOST_CUTS).position(|byte| *byte == 0xff);
    end.map_or((&[], bytes), |end| (&bytes[..end], &bytes[end + 1..]))
}

/// The text in pieces: as long as each cut says, in turn, for ever; byte by byte without any.
pub(crate) fn pieces<'a>(cuts: &'a [u8], mut text: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = cuts.iter().map(|cut| usize::from(*cut).max(1)).cycle();
    std::iter::from_fn(move || {
        let length = lengths.next().unwrap_or(1).min(text.len());
        let (piece, rest) = text.split_at(length);
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
