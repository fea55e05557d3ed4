//! The threads that serve connections: one serves a connection until that is quiet, and then the next.

use std::sync::Arc;

use super::connection::Connection;
use super::serve::serve;
use super::server::Shared;

/// The connection threads of one server.
pub(super) type Crew = crate::sync::Crew<Box<Connection>, Desk>;

/// What a connection thread keeps from one connection to the next.
#[derive(Default)]
pub(super) struct Desk {
    server: Option<Arc<Shared>>,
    spare: Vec<u8>,
}

/// Serves a connection on its thread.
pub(super) fn run(connection: Box<Connection>, desk: &mut Desk) {
    let server = desk.server.get_or_insert_with(|| Arc::clone(connection.server()));
    serve(server, connection, &mut desk.spare);
}

/// Has a connection served by a thread of its own. Hands it back if there is none to be had.
pub(super) fn dispatch(crew: &Crew, connection: Box<Connection>) -> Result<(), Box<Connection>> {
    match crew.seat() {
        Ok(seat) => seat.give(connection),
        Err(why) => {
            log::debug!("no thread for a connection: {why}");
            Err(connection)
        }
    }
}
