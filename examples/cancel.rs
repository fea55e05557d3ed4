//! Not waiting any longer: a deadline for a call, a token that cancels it from elsewhere, a stream that is dropped, and the
//! first of two answers. Each time the provider hears of it as well.
//!
//! `cargo run --example cancel`

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use std::thread;
use std::time::Duration;

use sluicegate::crossbeam_channel::select;
use sluicegate::{CallOptions, CancelToken, ChatRequest, Code, Gateway};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::from_env()?;

    // A deadline bounds the whole call, its waits, retries and fallbacks among it.
    let hurried = gateway.with(CallOptions::new().deadline(Duration::from_millis(100)));
    let late = hurried.ask("sim/hang", "Hello").expect_err("it never answers");
    println!("{late}");

    // A token cancels from any thread: of a window that is closed, of a handler of signals.
    let token = CancelToken::new();
    let calls = gateway.with(CallOptions::new().cancel(token.clone()));
    let cancelled = thread::scope(|scope| {
        let waiting = scope.spawn(|| calls.ask("sim/hang", "Hello"));
        while gateway.stats().requests.in_flight == 0 {
            thread::park_timeout(Duration::from_millis(1));
        }
        token.cancel();
        waiting.join().expect("no caller panics")
    });
    let cancelled = cancelled.expect_err("it was cancelled");
    println!("{cancelled}");

    // A stream ends when it is dropped.
    let mut stream = gateway.chat_stream(&ChatRequest::new("sim/lorem-1000+gap-50ms", "Hello"))?;
    let first = stream.next().transpose()?.expect("a first chunk");
    drop(stream);

    // Two at once, without a thread of your own: who comes first wins, and dropping the other's handle cancels it.
    let slow = gateway.submit(&ChatRequest::new("sim/echo+slow-30s", "slow"))?;
    let fast = gateway.submit(&ChatRequest::new("sim/echo", "fast"))?;
    let winner = select! {
        recv(slow.receiver()) -> answer => answer??,
        recv(fast.receiver()) -> answer => answer??,
    };
    drop((slow, fast));
    println!("{} was first", winner.text());

    let report = gateway.shutdown(Duration::from_secs(5));
    assert_eq!((late.code(), cancelled.code()), (Code::UpstreamTimeout, Code::ClientClosed));
    assert_eq!((first.finish_reason(), winner.text()), (None, "fast"));
    // Nothing was left to be cut: cancelled calls had ended.
    assert_eq!((report.cut, gateway.stats().requests.cancelled_total), (0, 3), "{report:?}");
    Ok(())
}
