//! Both planes of a gateway and the statistics between them, started together.

use std::sync::Arc;

use super::output::Failure;
use crate::admin::Admin;
use crate::front::Front;
use crate::gateway::{Gateway, Snapshot};
use crate::stats::Stats;

/// What a gateway is reached through.
#[derive(Debug)]
pub(super) struct Planes {
    pub(super) front: Arc<Front>,
    pub(super) stats: Arc<Stats>,
    pub(super) admin: Admin,
}

impl Planes {
    /// Listens where the gateway's configuration says.
    pub(super) fn start(gateway: &Gateway) -> Result<Self, Failure> {
        let server = &gateway.config().server;
        let front = Arc::new(Front::start(gateway, server.listen)?);
        // Weak: whoever ends the planes needs the only handle.
        let weak = Arc::downgrade(&front);
        let connections = Box::new(move |snapshot: &mut Snapshot| {
            snapshot.connections = weak.upgrade().map(|front| front.stats());
        });
        let stats = Arc::new(Stats::start(gateway, connections)?);
        let admin = Admin::start(gateway, server.admin, Arc::clone(&stats))?;
        Ok(Self { front, stats, admin })
    }
}
