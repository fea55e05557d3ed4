//! What a connection's thread does: one request after the other, until the connection is quiet, gone, or somebody else's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::connection::{BodyError, Connection, Received};
use super::exchange::Exchange;
use super::framing::Framing;
use super::head::Head;
use super::refusal::Refusal;
use super::server::Shared;
use super::service::Request;
use crate::sync::threads::{self, note_panic, panic_text};

/// Serves a connection. `spare` is the thread's buffer, lent to the connection while it is here.
pub(super) fn serve(server: &Arc<Shared>, mut connection: Box<Connection>, spare: &mut Vec<u8>) {
    connection.give_back(std::mem::take(spare));
    loop {
        let head = match connection.receive() {
            Received::Head(head) => head,
            Received::Quiet => {
                *spare = connection.release().unwrap_or_default();
                return connection.park();
            }
            Received::Over => return,
            Received::Failed => return connection.close(true),
            Received::Refused(refusal) => return connection.refuse(None, &refusal, None),
        };
        match exchange(server, connection, head) {
            Some(next) => connection = next,
            None => return,
        }
    }
}

/// One request, from its head to its answer. Gives the connection back if it goes on here.
fn exchange(server: &Arc<Shared>, mut connection: Box<Connection>, head: Head) -> Option<Box<Connection>> {
    let arrived = connection.take_arrival();
    // Whoever waits longer than that for something else says so himself.
    let limits = server.limits();
    let _piece = threads::round(limits.body_timeout + limits.write_timeout + threads::ROUND);
    let framing = match Framing::of(&head) {
        Ok(framing) => framing,
        Err(refusal) => {
            connection.refuse(Some(&head), &refusal, None);
            return None;
        }
    };
    threads::count_job();
    let service = server.service();
    let peer = connection.peer();
    let admission = match catch_unwind(AssertUnwindSafe(|| service.admit(&head, peer))) {
        Ok(Ok(admission)) => admission,
        Ok(Err(response)) => {
            let discardable = framing.discardable().filter(|_| response.discards_body());
            if let Some(length) = discardable {
                connection.discard(length);
            }
            let unread = framing.has_body() && discardable.is_none();
            return connection.respond(&response, head.method() == "HEAD", framing.close, unread);
        }
        Err(panic) => {
            note_panic(format!("admitting a request: {}", panic_text(&*panic)));
            connection.refuse(Some(&head), &Refusal::unanswered(), None);
            return None;
        }
    };
    let most = server.limits().max_body_bytes;
    let most = admission.max_body.map_or(most, |own| own.min(most));
    if let Some(refusal) = framing.too_long(most) {
        connection.refuse(Some(&head), &refusal, admission.hold);
        return None;
    }
    if framing.expects_continue && connection.send_continue().is_err() {
        return None;
    }
    let mut body = service.buffer(framing.body.announced());
    match connection.read_body(framing.body, most, &mut body) {
        Ok(()) => {}
        Err(BodyError::Gone) => return None,
        Err(BodyError::Refused(refusal)) => {
            connection.refuse(Some(&head), &refusal, admission.hold);
            return None;
        }
    }
    let exchange = Exchange::new(connection, head.clone(), framing.close, arrived);
    let request = Request { head, body, arrived, peer, hold: admission.hold };
    match catch_unwind(AssertUnwindSafe(|| service.serve(request, exchange))) {
        Ok(finished) => finished.take(),
        Err(panic) => {
            // Its exchange has answered in the unwinding, if nobody had before.
            note_panic(format!("serving a request: {}", panic_text(&*panic)));
            None
        }
    }
}
