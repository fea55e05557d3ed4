//! Content codings: gzip taken off requests, and put on whole answers where a client asks for it.
//!
//! A request's body is decompressed on the connection's thread, before anybody looks at it, so that every route takes one
//! and a provider never sees it. Its length then counts as that of any body: past `server.max_body_bytes` it is refused
//! while it grows, and the memory it takes is taken from the budget before it is filled (I4). One gzip member is a body;
//! several, or anything behind the one, are refused: a body of a million empty members costs a reset each and says nothing.
//! `deflate` is refused by name: half of those who say so mean zlib's format and half the bare one.
//!
//! An answer is compressed if its client prefers gzip to nothing, it is JSON, whole and at least [`WORTH`] bytes long.
//! Streams are not: each event would have to be flushed by itself to be on its way at once, which leaves little to gain on
//! events of a few hundred bytes, and what stands between would hold them back. Nor is what was forwarded, whose bytes are
//! the provider's.
//!
//! Measured with miniz_oxide, CPU time: at level 1 JSON of 700 bytes takes 18 µs, of 2 KiB 26 µs, of 4 KiB 37 µs, of 64 KiB
//! 0.2 to 0.5 ms, of 1 MiB 4 to 9 ms (numbers, as in embeddings, are the dearer), and comes out half as long or less. Level 6
//! takes 1.6 times that for 2 KiB, four to ten times for more, and saves a tenth of numbers. Undoing it takes 11 µs for
//! 2 KB. A compressor holds some hundred KB, so there are as many as processors, kept; an answer that finds none of them free
//! goes out as it is, which costs nothing but bytes.

use std::fmt;
use std::io::Read as _;
use std::thread::available_parallelism;

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::bufread::GzDecoder;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::error::{Code, Error};
use crate::http::{Head, Response};

/// The shortest answer that is compressed, in bytes: with its head it is the shortest that takes a packet less for it.
const WORTH: usize = 2048;

/// What a decompressed body gets room for at first, at least, in bytes.
const FIRST: usize = 4 << 10;

/// A gzip member's head: deflate, no flags, no time, fastest, system unknown (RFC 1952, section 2.3).
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff];

/// The content coding of a request's body; `true` for gzip.
///
/// # Errors
/// [`Code::Unsupported`] for any other than gzip, and for several.
pub(super) fn is_gzip(head: &Head) -> Result<bool, Error> {
    let mut gzip = false;
    for (name, value) in head.headers() {
        if !name.eq_ignore_ascii_case("content-encoding") {
            continue;
        }
        let value = String::from_utf8_lossy(value);
        for coding in value.split(',').map(str::trim) {
            let is_gzip = coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip");
            if is_gzip && !gzip {
                gzip = true;
            } else if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
                let text = "a request's body may be compressed once, by gzip, and in no other way";
                return Err(Error::new(Code::Unsupported, text).with_param("content-encoding"));
            }
        }
    }
    Ok(gzip)
}

/// Decompresses a body to at most `limit` bytes, asking `room` for what it is about to hold.
///
/// # Errors
/// [`Code::BodyTooLarge`] past the limit, [`Code::InvalidRequest`] for what is no gzip or not whole, and what `room` says.
pub(super) fn gunzip(
    body: &[u8],
    limit: usize,
    mut room: impl FnMut(u64) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let mut decoder = GzDecoder::new(body);
    let mut plain = Vec::new();
    loop {
        // One more than allowed shows that there is more.
        let next = (plain.len() * 2).max(body.len().saturating_mul(4)).max(FIRST).min(limit + 1);
        let more = next - plain.len();
        room(more as u64)?;
        plain.reserve_exact(more);
        let read = decoder.by_ref().take(more as u64).read_to_end(&mut plain).map_err(|error| {
            let text = "the body is no whole gzip, which content-encoding says it is";
            Error::new(Code::InvalidRequest, text).with_param("content-encoding").with_source(error)
        })?;
        if plain.len() > limit {
            let text = format!("decompressed, the body is longer than {limit} bytes (server.max_body_bytes)");
            return Err(Error::new(Code::BodyTooLarge, text));
        }
        if read < more {
            break;
        }
    }
    if !decoder.into_inner().is_empty() {
        let text = "something stands behind the body's gzip member; it may have one";
        return Err(Error::new(Code::InvalidRequest, text).with_param("content-encoding"));
    }
    Ok(plain)
}

/// Compresses answers, as many at once as there are processors.
pub(super) struct Compressors {
    /// A place for each; the compressor stands in it once it was needed.
    free: (Sender<Option<Compress>>, Receiver<Option<Compress>>),
}

impl Compressors {
    pub(super) fn new() -> Self {
        let count = available_parallelism().map_or(1, usize::from);
        let (give, take) = bounded(count);
        for _ in 0..count {
            // There is room for each.
            let _ = give.try_send(None);
        }
        Self { free: (give, take) }
    }

    /// The answer in the coding that the request asks for, if it is worth it.
    pub(super) fn encode(&self, head: &Head, mut response: Response) -> Response {
        let json = |(name, value): &(std::borrow::Cow<'static, str>, String)| {
            name == "content-type" && value.starts_with("application/json")
        };
        if response.body.len() < WORTH || !response.headers.iter().any(json) {
            return response;
        }
        response = response.header("vary", "accept-encoding");
        if !wants_gzip(head) {
            return response;
        }
        let Ok(place) = self.free.1.try_recv() else { return response };
        // Lost with its place by a panic: the answers after it go out as they are.
        let mut compress = place.unwrap_or_else(|| Compress::new(Compression::fast(), false));
        let packed = gzip(&mut compress, &response.body);
        compress.reset();
        let _ = self.free.0.try_send(Some(compress));
        match packed {
            Some(packed) => {
                response.body = packed.into();
                response.header("content-encoding", "gzip")
            }
            None => response,
        }
    }
}

impl fmt::Debug for Compressors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressors").field("free", &self.free.1.len()).finish()
    }
}

/// `plain` as one gzip member; `None` if that is no shorter.
fn gzip(compress: &mut Compress, plain: &[u8]) -> Option<Vec<u8>> {
    let mut packed = Vec::with_capacity(plain.len());
    packed.extend_from_slice(&GZIP_HEAD);
    let ended = compress.compress_vec(plain, &mut packed, FlushCompress::Finish);
    let mut crc = Crc::new();
    crc.update(plain);
    let fits = matches!(ended, Ok(Status::StreamEnd)) && packed.len() + 8 < plain.len();
    packed.extend_from_slice(&crc.sum().to_le_bytes());
    packed.extend_from_slice(&crc.amount().to_le_bytes());
    fits.then_some(packed)
}

/// Whether a client takes gzip, and no less gladly than an answer as it is (RFC 9110, section 12.5.3).
fn wants_gzip(head: &Head) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for (name, value) in head.headers() {
        if !name.eq_ignore_ascii_case("accept-encoding") {
            continue;
        }
        for item in String::from_utf8_lossy(value).split(',') {
            let mut parts = item.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            let weight = weight.map_or(Some(1.0), |text| text.trim().parse::<f32>().ok()).unwrap_or(0.0);
            match &*coding {
                "gzip" | "x-gzip" => gzip = Some(weight),
                "identity" => identity = Some(weight),
                "*" => any = Some(weight),
                _ => {}
            }
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(plain: &[u8]) -> Vec<u8> {
        gzip(&mut Compress::new(Compression::fast(), false), plain).expect("shorter")
    }

    fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, Code> {
        gunzip(packed, limit, |_| Ok(())).map_err(|error| error.code())
    }

    #[test]
    fn what_was_compressed_comes_out_again_and_a_compressor_serves_twice() {
        let mut compress = Compress::new(Compression::fast(), false);
        for round in 0..3u8 {
            let plain: Vec<u8> = (0..100_000).map(|n: u32| (n / 7) as u8 ^ round).collect();
            let packed = gzip(&mut compress, &plain).expect("shorter");
            compress.reset();
            assert_eq!(unpack(&packed, plain.len()).as_deref(), Ok(&plain[..]), "exactly the limit is allowed");
            assert_eq!(unpack(&packed, plain.len() - 1), Err(Code::BodyTooLarge));
        }
        assert!(gzip(&mut compress, b"ab").is_none(), "what does not shrink stays as it is");
    }

    #[test]
    fn what_is_no_whole_gzip_member_is_refused() {
        let packed = pack(&[b'x'; 1000]);
        for end in 0..packed.len() {
            assert_eq!(unpack(&packed[..end], 1000), Err(Code::InvalidRequest), "cut at {end}");
        }
        let twice = [&packed[..], &packed].concat();
        let behind = [&packed[..], b"{}"].concat();
        let mut wrong = packed.clone();
        *wrong.last_mut().expect("bytes") ^= 1;
        for body in [&twice[..], &behind, &wrong, b"{}", b"\x1f\x8b"] {
            assert_eq!(unpack(body, 10_000), Err(Code::InvalidRequest));
        }
    }

    #[test]
    fn a_bomb_takes_no_more_room_than_a_body_may() {
        let bomb = pack(&vec![0; 8 << 20]);
        assert!(bomb.len() < 64 << 10);
        let (limit, mut held) = (1 << 20, 0);
        let error = gunzip(&bomb, limit, |more| {
            held += more;
            Ok(())
        });
        assert_eq!(error.map_err(|error| error.code()), Err(Code::BodyTooLarge));
        assert!(held <= limit as u64 + 1, "{held}");
        let no_room = gunzip(&bomb, limit, |_| Err(Error::new(Code::Overloaded, "full")));
        assert_eq!(no_room.map_err(|error| error.code()), Err(Code::Overloaded));
    }
}
