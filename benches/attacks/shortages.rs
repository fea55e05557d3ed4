//! Attacks on what there is only so much of: slots, descriptors, threads.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::floods::within;
use super::gateway::{Gateway, answered, chat, connect, get, pause, status};
use super::{Error, FUSE, Size};

/// The most connections of the gateway that has few slots, and how many are opened.
const SLOTS: usize = 100;
const OPENED: usize = 300;

/// Streams that are asked of the gateway that has few threads.
const STREAMS: usize = 60;

pub(super) fn few_slots(config: &mut Value) {
    config["server"]["max_connections"] = json!(SLOTS);
}

/// The fewest threads that there may be, and workers that would take them all.
pub(super) fn few_threads(config: &mut Value) {
    config["threads"]["max"] = json!(32);
    config["providers"]["sim"]["concurrency_and_buffer_size"] =
        json!({ "concurrency": 32, "min_concurrency": 4, "buffer_size": 100 });
}

/// How many connections are opened before the gateway is given time to let go of them: fewer than it has room for.
const BATCH: usize = 5;

/// Opens connections of which each has been served once, and stands idle.
fn served(gateway: &Gateway) -> Result<Vec<TcpStream>, Error> {
    let mut sockets = Vec::new();
    for nth in 0..OPENED {
        let mut socket = gateway.connect()?;
        socket.write_all(get("/livez").as_bytes())?;
        match answered(&mut socket) {
            200 => sockets.push(socket),
            other => return Err(format!("connection {nth} was answered {other}").into()),
        }
        if nth % BATCH == 0 {
            // One that has a thread is not idle yet, and cannot give way however long ago it was answered.
            within(FUSE, "all are parked", || all_parked(gateway))?;
        }
    }
    Ok(sockets)
}

fn all_parked(gateway: &Gateway) -> Result<bool, Error> {
    let request = format!("GET /stats?fresh=1 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", gateway.admin);
    let (mut socket, mut text) = (connect(gateway.admin)?, String::new());
    socket.write_all(request.as_bytes())?;
    socket.read_to_string(&mut text)?;
    let body = text.split_once("\r\n\r\n").ok_or("no statistics")?.1;
    let connections = &serde_json::from_str::<Value>(body)?["connections"];
    Ok(connections["open"].is_u64() && connections["open"] == connections["idle"])
}

/// Whether the other side has closed, once everything that came is read.
fn is_closed(socket: &TcpStream) -> Result<bool, Error> {
    socket.set_nonblocking(true)?;
    loop {
        match (&*socket).read(&mut [0; 4096]) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) => return Ok(error.kind() != std::io::ErrorKind::WouldBlock),
        }
    }
}

/// How many closed; none may be younger than one that did not, by more than a batch: within one, a thread that was answered
/// first may come to say so last.
fn closed_in_order(sockets: &[TcpStream]) -> Result<usize, Error> {
    let closed = sockets.iter().map(is_closed).collect::<Result<Vec<_>, _>>()?;
    let count = closed.iter().filter(|closed| **closed).count();
    let (sure, kept) = (count.saturating_sub(BATCH), (count + BATCH).min(closed.len()));
    if closed[..sure].iter().all(|closed| *closed) && !closed[kept..].contains(&true) {
        Ok(count)
    } else {
        let oldest = closed.iter().position(|closed| !*closed);
        Err(format!("{count} gave way, though the one at {oldest:?} had been idle longer than some of them").into())
    }
}

pub(super) fn slots(gateway: &Gateway, _: &Size) -> Result<[String; 2], Error> {
    let sockets = served(gateway)?;
    let closed = closed_in_order(&sockets)?;
    if closed != OPENED - SLOTS {
        return Err(format!("{closed} gave way, not {}", OPENED - SLOTS).into());
    }
    Ok([
        format!("{OPENED} connections on {SLOTS} slots, each served once"),
        format!("{OPENED} x 200, the {closed} longest idle closed"),
    ])
}

pub(super) fn descriptors(gateway: &Gateway, size: &Size) -> Result<[String; 2], Error> {
    let mut sockets = served(gateway)?;
    closed_in_order(&sockets)?;
    // As many as can be had at once, in the middle of their heads: nobody is idle any more.
    let mut half = Vec::new();
    for _ in 0..OPENED {
        let mut socket = gateway.connect()?;
        socket.write_all(b"GET /livez HTTP/1.1\r\nA: ")?;
        half.push(socket);
    }
    let limit = Duration::from_secs(1) * size.slack;
    within(limit, "somebody is served, since each could give way", || Ok(gateway.serves()))?;
    let admin = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.admin);
    if status(connect(gateway.admin)?, &admin)? != 200 {
        return Err("the admin plane has no descriptor".into());
    }
    sockets.clear();
    Ok([
        format!("{OPENED} connections on 64 descriptors, then {OPENED} half heads"),
        format!("{OPENED} x 200, the longest idle closed; chat and admin plane served meanwhile"),
    ])
}

pub(super) fn threads(gateway: &Gateway, _: &Size) -> Result<[String; 2], Error> {
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut socket = gateway.connect()?;
        socket.write_all(chat("sim/lorem-20+gap-100ms", true).as_bytes())?;
        streams.push(socket);
        // One after the other, so that each finds a thread that the one before has left for its worker.
        pause(Duration::from_millis(10));
    }
    let probe = status(gateway.connect()?, &get("/livez"))?;
    if !matches!(probe, 200 | 503) {
        return Err(format!("a probe was answered {probe}").into());
    }
    let (mut served, mut refused) = (0, 0);
    for mut socket in streams {
        match answered(&mut socket) {
            200 => served += 1,
            502..=504 => refused += 1,
            other => return Err(format!("a stream was answered {other}").into()),
        }
    }
    Ok([
        format!("{STREAMS} streams of 2 s on 32 threads"),
        format!("{served} x 200, {refused} refused, a probe {probe}"),
    ])
}
