//! Clients that no gateway wants, each a round of its own that is done again and again.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::house::chat;

/// One round of a client.
pub(crate) type Round = fn(SocketAddr);

/// Requests of a burst: more than twice what may be under way.
const BURST: usize = 60;

/// Every kind of them.
pub(crate) fn all() -> [Round; 6] {
    [burst, slow_reader, slow_head, slow_body, bad_framing, idle]
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn head(framing: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n")
}

fn connect(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("connected");
    socket
}

/// Reads to the end, or until it is cut.
fn read_out(mut socket: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Many at once, a quarter of them batch: each is answered, by what it asked for, by when to come again, or by that the
/// provider was late: its limits are short, and processors may be, too.
fn burst(addr: SocketAddr) {
    let mut clients: Vec<_> = (0..BURST).map(|_| Client::connect(addr)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let lane = if number.is_multiple_of(4) { "batch" } else { "interactive" };
        let model = if number.is_multiple_of(2) { "block/lorem-20+slow-20ms" } else { "error/echo+slow-20ms" };
        client.chat(&[&format!("x-sluicegate-priority: {lane}")], &chat(model, number.is_multiple_of(3)));
    }
    for client in &mut clients {
        let answer = client.answer();
        let refused = matches!(answer.status, 429 | 503) && answer.header("retry-after").is_some();
        let late = answer.status == 504 || (answer.status == 200 && !answer.complete);
        assert!(refused || late || answer.status == 200, "{} {}", answer.head, answer.text());
        assert!(!late || answer.text().contains("timeout"), "{} {}", answer.head, answer.text());
    }
    sleep(ms(500));
}

/// Reads a few bytes of a long stream now and then, until it is cut or has enough.
fn slow_reader(addr: SocketAddr) {
    let mut client = Client::small_window(addr);
    client.chat(&[], &chat("block/lorem-50000", true));
    let until = Instant::now() + ms(1500);
    while Instant::now() < until && client.read_byte().is_some() {
        sleep(ms(20));
    }
}

/// A head that never comes whole.
fn slow_head(addr: SocketAddr) {
    let mut socket = connect(addr);
    for byte in head("content-length: 0").bytes().take(30) {
        if socket.write_all(&[byte]).is_err() {
            break;
        }
        sleep(ms(15));
    }
    assert!(matches!(read_out(socket).get(9..12), Some("408" | "503") | None));
}

/// Bodies that stop in the middle: one waits for its answer, one leaves.
fn slow_body(addr: SocketAddr) {
    for (framing, part) in [("content-length: 100000", "{\"model\""), ("transfer-encoding: chunked", "5\r\nhello\r\n")]
    {
        let mut socket = connect(addr);
        let _ = socket.write_all(format!("{}{part}", head(framing)).as_bytes());
        let answer = read_out(socket);
        assert!(matches!(answer.get(9..12), Some("408" | "503")), "{answer}");
        let mut socket = connect(addr);
        let _ = socket.write_all(format!("{}{part}", head(framing)).as_bytes());
        sleep(ms(50));
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// What is no request is refused, and the connection closed.
fn bad_framing(addr: SocketAddr) {
    for wrong in [
        "GET / HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0\0\0\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: +5\r\n\r\nhello",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000000\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost : x\r\n\r\n",
    ] {
        let mut socket = connect(addr);
        let _ = socket.write_all(wrong.as_bytes());
        let answer = read_out(socket);
        let status = answer.get(9..12).and_then(|status| status.parse::<u16>().ok());
        assert!(status.is_some_and(|status| (400..600).contains(&status)), "{wrong:?}: {answer}");
    }
    sleep(ms(20));
}

/// Connections that lie idle: some until they are closed, the others until they leave.
fn idle(addr: SocketAddr) {
    let sockets: Vec<_> = (0..20).map(|_| connect(addr)).collect();
    sleep(ms(700));
    for (number, socket) in sockets.into_iter().enumerate() {
        if number.is_multiple_of(2) {
            read_out(socket);
        }
    }
}
