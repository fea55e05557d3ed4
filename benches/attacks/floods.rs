//! Attacks by number, by slowness and by length.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use sluicegate::time::{Deadline, now};

use super::gateway::{Gateway, answered, chat, get, narrow, pause, status};
use super::{Error, FUSE, Size};

/// What an attack says of itself: what was sent, and what was answered.
type Told = Result<[String; 2], Error>;

/// How much more memory ten thousand idle connections may take, in KiB.
const IDLE_KIB: u64 = 60 << 10;

/// How much more memory what is bounded by a few buffers may take, in KiB.
const FEW_KIB: u64 = 32 << 10;

/// How many connect at once, from as many threads.
const AT_ONCE: usize = 300;

/// Connections whose answer nobody reads; as many as there are workers.
const UNREAD: usize = 16;

/// Reads an answer from each, which must be `wanted`.
fn all(sockets: Vec<TcpStream>, wanted: u16) -> Result<String, Error> {
    let count = sockets.len();
    for (nth, mut socket) in sockets.into_iter().enumerate() {
        let status = answered(&mut socket);
        if status != wanted {
            return Err(format!("connection {nth} was answered {status}, not {wanted}").into());
        }
    }
    Ok(format!("{count} x {wanted}"))
}

/// Opens so many connections and sends the same on each.
fn open(gateway: &Gateway, count: usize, bytes: &str) -> Result<Vec<TcpStream>, Error> {
    let one = |_| {
        let mut socket = gateway.connect()?;
        socket.write_all(bytes.as_bytes())?;
        Ok(socket)
    };
    (0..count).map(one).collect()
}

/// Waits for `holds`, and says how long it took.
pub(super) fn within(
    limit: Duration,
    what: &str,
    mut holds: impl FnMut() -> Result<bool, Error>,
) -> Result<Duration, Error> {
    let (start, fuse) = (now(), Deadline::after(limit));
    while !holds()? {
        if fuse.passed() {
            return Err(format!("not within {limit:?}: {what}").into());
        }
        pause(Duration::from_millis(5));
    }
    Ok(now() - start)
}

pub(super) fn slow_heads(gateway: &Gateway, size: &Size) -> Told {
    let sockets = open(gateway, size.slow, "GET /livez HTTP/1.1\r\nHost: x\r\nA: ")?;
    let answer = all(sockets, 408)?;
    Ok([format!("{} half heads, then silence", size.slow), answer])
}

pub(super) fn dripped_heads(gateway: &Gateway, size: &Size) -> Told {
    let mut sockets = open(gateway, size.slow, "GET /livez HTTP/1.1\r\nHost: x\r\nA: ")?;
    let until = Deadline::after(size.limit * 2);
    let pace = size.limit / 10;
    let mut sent = 0;
    while !until.passed() {
        for socket in &mut sockets {
            // Answered and closed meanwhile, most likely.
            sent += u64::from(socket.write_all(b"a").is_ok());
        }
        pause(pace);
    }
    // Whoever goes on sending after a refusal may be reset, and lose it: what counts is that nobody is kept.
    let mut refused = 0;
    for mut socket in sockets {
        match answered(&mut socket) {
            408 => refused += 1,
            0 => {}
            other => return Err(format!("answered {other}").into()),
        }
        std::io::copy(&mut socket, &mut std::io::sink()).or_else(is_reset)?;
    }
    Ok([
        format!("{} heads, {sent} bytes one by one past their time", size.slow),
        format!("{refused} x 408, all closed"),
    ])
}

fn is_reset(error: std::io::Error) -> Result<u64, std::io::Error> {
    if error.kind() == std::io::ErrorKind::ConnectionReset { Ok(0) } else { Err(error) }
}

pub(super) fn slow_bodies(gateway: &Gateway, size: &Size) -> Told {
    let count = size.slow.min(200);
    let half = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{";
    let sockets = open(gateway, count, half)?;
    if !gateway.serves() {
        return Err("nobody else is served meanwhile".into());
    }
    Ok([format!("{count} half bodies, then silence"), all(sockets, 408)?])
}

/// Asks for more than the system holds for a client, and reads none of it until it is cut off.
fn unread(gateway: &Gateway, stream: bool) -> Told {
    let request = chat("sim/lorem-1000000", stream);
    let mut sockets = Vec::new();
    for _ in 0..UNREAD {
        let mut socket = narrow(gateway.data)?;
        socket.write_all(request.as_bytes())?;
        sockets.push(socket);
    }
    let mut cut = 0;
    for socket in &sockets {
        let reset = || Ok(socket.take_error()?.is_some());
        within(FUSE, "the one who does not read is cut off", reset)?;
        cut += 1;
    }
    Ok([format!("{UNREAD} requests for 6 MB, nothing read"), format!("{cut} reset")])
}

pub(super) fn unread_streams(gateway: &Gateway, _: &Size) -> Told {
    unread(gateway, true)
}

pub(super) fn unread_answers(gateway: &Gateway, _: &Size) -> Told {
    unread(gateway, false)
}

pub(super) fn idle(gateway: &Gateway, size: &Size) -> Told {
    let base = gateway.usage()?;
    let mut sockets = open(gateway, size.idle / 2, "")?;
    for _ in sockets.len()..size.idle {
        let mut socket = gateway.connect()?;
        socket.write_all(get("/livez").as_bytes())?;
        if answered(&mut socket) != 200 {
            return Err("one of many is not served".into());
        }
        sockets.push(socket);
    }
    let all_parked = || Ok(gateway.usage()?.threads <= base.threads);
    let parked = within((size.thread_idle + Duration::from_secs(1)) * size.slack, "they hold no thread", all_parked)?;
    let held = gateway.usage()?;
    let more = held.rss_kib.saturating_sub(base.rss_kib);
    if more > IDLE_KIB {
        return Err(format!("{more} KiB more for {} idle connections", size.idle).into());
    }
    if (held.descriptors as usize) < size.idle {
        return Err(format!("only {} descriptors for {} connections", held.descriptors, size.idle).into());
    }
    if !gateway.serves() {
        return Err("nobody is served beside them".into());
    }
    let sent = format!("{} connections, half of them silent from the start", size.idle);
    Ok([sent, format!("all kept, no thread after {} ms, {more} KiB more", parked.as_millis())])
}

pub(super) fn at_once(gateway: &Gateway, _: &Size) -> Told {
    let (start, started) = crossbeam_channel::bounded::<()>(0);
    let served = std::thread::scope(|scope| {
        let running: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let started = started.clone();
                scope.spawn(move || {
                    let _ = started.recv();
                    gateway.connect().and_then(|socket| status(socket, &chat("sim/echo", false))).unwrap_or(0)
                })
            })
            .collect();
        drop(start);
        let mut counts = BTreeMap::new();
        for status in running.into_iter().filter_map(|thread| thread.join().ok()) {
            *counts.entry(status).or_insert(0) += 1;
        }
        counts
    });
    if served.get(&200) != Some(&AT_ONCE) {
        return Err(format!("statuses and how often: {served:?}").into());
    }
    Ok([format!("{AT_ONCE} chats at once, each on a connection of its own"), format!("{AT_ONCE} x 200")])
}

pub(super) fn resets(gateway: &Gateway, size: &Size) -> Told {
    for nth in 0..size.slow {
        let mut socket = gateway.connect()?;
        if nth % 2 == 0 {
            socket.write_all(get("/livez").as_bytes())?;
        }
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    }
    Ok([format!("{} connections reset at once, half of them with a request", size.slow), "none".to_owned()])
}

pub(super) fn gigabytes(gateway: &Gateway, size: &Size) -> Told {
    let base = gateway.usage()?;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n";
    let sockets = open(gateway, size.slow, head)?;
    let answer = all(sockets, 413)?;
    let more = gateway.usage()?.rss_kib.saturating_sub(base.rss_kib);
    if more > FEW_KIB {
        return Err(format!("{more} KiB more for bodies that were only announced").into());
    }
    Ok([format!("{} bodies of 1 GB announced", size.slow), answer])
}

pub(super) fn endless_chunks(gateway: &Gateway, _: &Size) -> Told {
    let mut socket = gateway.connect()?;
    socket.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let chunk = [b"10000\r\n".as_slice(), &[b'a'; 0x1_0000], b"\r\n"].concat();
    let mut sent = 0;
    let (start, mut status) = (now(), 0);
    socket.set_nonblocking(true)?;
    let (mut left, mut line) = (chunk.as_slice(), [0; 12]);
    while now() - start < FUSE {
        match socket.write(left) {
            Ok(n) => {
                sent += n;
                left = if n == left.len() { &chunk } else { &left[n..] };
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => pause(Duration::from_millis(1)),
            Err(_) => break,
        }
        if status == 0 && socket.read(&mut line).is_ok_and(|n| n == line.len()) {
            status = std::str::from_utf8(&line[9..])?.parse()?;
        }
    }
    if !matches!(status, 413 | 408) {
        return Err(format!("answered {status} after {sent} bytes").into());
    }
    Ok(["chunks without end".to_owned(), format!("{status}, cut after {} MB", sent >> 20)])
}

pub(super) fn pipelined(gateway: &Gateway, size: &Size) -> Told {
    let base = gateway.usage()?;
    let reading = gateway.connect()?;
    let mut writing = reading.try_clone()?;
    let count = size.pipelined;
    let mut most = 0;
    std::thread::scope(|scope| -> Result<(), Error> {
        let writer = scope.spawn(move || -> std::io::Result<()> {
            let mut batch = String::new();
            for nth in 0..count {
                batch += &get(&format!("/n{nth}."));
                if batch.len() > 60_000 || nth + 1 == count {
                    writing.write_all(batch.as_bytes())?;
                    batch.clear();
                }
            }
            Ok(())
        });
        let mut reading = std::io::BufReader::with_capacity(1 << 16, reading);
        let answered = (0..count).try_for_each(|nth| {
            if nth % 10_000 == 0 {
                most = most.max(gateway.usage()?.rss_kib);
            }
            in_order(&mut reading, nth)
        });
        // A writer that is stuck hears of the reader's end by its time-out.
        let written = writer.join().map_err(|_| "the writer panicked")?;
        answered?;
        Ok(written?)
    })?;
    let more = most.saturating_sub(base.rss_kib);
    if more > FEW_KIB {
        return Err(format!("{more} KiB more for one connection").into());
    }
    Ok([format!("{count} requests on one connection, unasked"), format!("{count} x 404 in order, {more} KiB more")])
}

/// Reads one answer, which must be the one of request `nth`.
fn in_order(reading: &mut impl std::io::BufRead, nth: usize) -> Result<(), Error> {
    let (mut line, mut length) = (String::new(), 0);
    reading.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 404 ") {
        return Err(format!("request {nth} was answered {line:?}").into());
    }
    while line != "\r\n" {
        line.clear();
        if reading.read_line(&mut line)? == 0 {
            return Err(format!("the connection ended at request {nth}").into());
        }
        if let Some(text) = line.strip_prefix("content-length: ") {
            length = text.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reading.read_exact(&mut body)?;
    let path = format!("/n{nth}.");
    if !String::from_utf8_lossy(&body).contains(&path) {
        return Err(format!("the answer to {path} is another one's").into());
    }
    Ok(())
}
