//! Policy `drop_oldest`: a newcomer that finds no place gets that of the job which has waited longest.
//!
//! **Protocol.** The oldest shell is taken out of its lane, and its payload out of the shell: to have the payload is to have
//! won against its worker and its waiter, as ever. Its permit goes from payload to newcomer and is never free in between, so
//! nobody else can grab it. The one that is shed is answered by its responder; the waiter of a stream still has the client's
//! sink and answers with a status of its own. A job that was handed to a worker does not wait and is never shed.
//!
//! **Invariants.** I1, I2: counted before it is answered. I5: the tries are bounded.

use super::figures::Unserved;
use super::job::{Payload, Reply};
use super::pool::{Shared, since};
use crate::error::{Code, Error};
use crate::model::Timing;
use crate::queue::{Permit, TakeError};

/// How often it is looked whether something waits: another thread may be turning a lane over, or have all jobs in hand for
/// workers that are just being woken.
const TRIES: u32 = 32;

impl Shared {
    /// The permit of the job that has waited longest, which is shed.
    ///
    /// # Errors
    /// [`TakeError::TimedOut`] if nothing waits, [`TakeError::Closed`] once the pool is closed.
    pub(super) fn shed_oldest(&self) -> Result<Permit, TakeError> {
        for _ in 0..TRIES {
            while let Some(job) = self.lanes.take_oldest() {
                match job.payload.take() {
                    Some(payload) => return Ok(self.shed(payload)),
                    // A check waits for better times.
                    None if job.look.take().is_some() => {}
                    None => self.lanes.unbury(job.priority),
                }
            }
            std::thread::yield_now();
            match self.permits.try_take() {
                Err(TakeError::TimedOut) => {}
                had_or_closed => return had_or_closed,
            }
        }
        Err(TakeError::TimedOut)
    }

    fn shed(&self, payload: Payload) -> Permit {
        let Payload { pass, permit, entry, responder, submitted, .. } = payload;
        drop(pass);
        entry.settle(Unserved::Dropped);
        let text = "it had waited longest when a newer request came and the queue was full (policy drop_oldest)";
        let error = Error::new(Code::RequestDropped, text).with_retry_after(self.come_again());
        let timing = Timing { queue: since(submitted), ..Timing::default() };
        responder.answer(Reply { result: Err(error), timing });
        permit
    }
}
