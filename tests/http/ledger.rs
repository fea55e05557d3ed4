//! P1 and I3 under a mix of everything: each request gets its own answer, once, and nothing is left over.

use sluicegate::http::{Exchange, Finished, Limits, Request, Response};
use sluicegate::sync::{CancelToken, Role, Threads};

use super::support::{Client, House, echo, eventually, ms};

const CLIENTS: u64 = 24;
const ROUNDS: u64 = 60;

/// `/echo`, `/stream` (its body comes back in pieces, from another thread) and `/long` (60 ms, so that it is watched).
fn serve(others: &Threads, request: Request, mut exchange: Exchange) -> Finished {
    let token = CancelToken::new();
    exchange.watch(&token);
    match request.head.path() {
        "/stream" => {
            exchange.watch_now();
            let mut writer = exchange.stream(Response::new(200));
            let stream = move || {
                for piece in request.body.chunks(7) {
                    if writer.send(piece).is_err() {
                        return;
                    }
                }
                writer.finish();
            };
            others.spawn(Role::Worker, "worker", stream).expect("room");
            Finished::moved()
        }
        "/long" => {
            let _ = token.channel().recv_timeout(ms(60));
            echo(request, exchange)
        }
        _ => echo(request, exchange),
    }
}

fn post(path: &str, body: &str, chunked: bool) -> String {
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n");
    if chunked {
        let (one, two) = body.split_at(body.len() / 2);
        format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
            one.len(),
            two.len()
        )
    } else {
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    }
}

fn client(house: &House, number: u64) {
    let mut random = fastrand::Rng::with_seed(number);
    let mut client = house.client();
    for round in 0..ROUNDS {
        let length = random.usize(..6000);
        let body = |n: u64| format!("client {number} round {round} request {n} {}", "x".repeat(length));
        let chunked = random.bool();
        match random.u8(..10) {
            0..4 => {
                let body = body(0);
                client.send(post("/echo", &body, chunked));
                assert_eq!(client.answer().text(), body);
            }
            4..6 => {
                let bodies = [body(0), body(1), body(2)];
                client.send(
                    post("/echo", &bodies[0], chunked)
                        + &post("/stream", &bodies[1], false)
                        + &post("/echo", &bodies[2], !chunked),
                );
                for body in &bodies {
                    assert_eq!(client.answer().text(), body);
                }
            }
            6 => {
                let body = body(0);
                client.send(post("/long", &body, chunked));
                assert_eq!(client.answer().text(), body);
            }
            7 => {
                let body = body(0);
                let bytes = post("/stream", &body, chunked);
                let (one, two) = bytes.split_at(random.usize(..bytes.len()));
                client.send(one);
                std::thread::park_timeout(ms(random.u64(..9)));
                client.send(two);
                assert_eq!(client.answer().text(), body);
            }
            8 => {
                // Leaves in the middle of whatever it is.
                let path = ["/echo", "/stream", "/long"][random.usize(..3)];
                let bytes = post(path, &body(0), chunked);
                client.send(&bytes[..random.usize(..=bytes.len())]);
                client = Client::connect(house.addr);
            }
            // About as long as a thread lingers: parked or not.
            _ => std::thread::park_timeout(ms(random.u64(2..9))),
        }
    }
}

#[test]
fn every_request_gets_its_own_answer_in_a_mix_of_everything() {
    let others = Threads::new(1000, 256 << 10);
    let workers = others.clone();
    let house = House::new(Limits { thread_idle_timeout: ms(10), ..Limits::default() }, move |request, exchange| {
        serve(&workers, request, exchange)
    });
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let house = &house;
            scope.spawn(move || client(house, number));
        }
    });
    eventually("every connection is gone", || house.stats().open == 0 && house.stats().idle == 0);
    eventually("every worker is done", || others.active() == 0);
    let stats = house.stats();
    assert_eq!((stats.refused_total, stats.bad_requests_total, stats.header_timeouts_total), (0, 0, 0));
    assert_eq!((house.threads.stats().panics_total, others.stats().panics_total), (0, 0));
    house.close();
}
