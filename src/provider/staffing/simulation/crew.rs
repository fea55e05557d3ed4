//! The roster and the supervisor's loop in virtual time, step for step as in `roster` and `supervisor`.

use super::world::{State, ThreadEnd, Worker};
use super::*;
use crate::queue::Shift;
use crate::sync::Quit;

/// The roster, in virtual time.
impl Crew for RefCell<World> {
    fn census(&self) -> Option<Census> {
        let Step { present, leaving, .. } = self.borrow().step(Event::Wake);
        Some(Census { present, leaving })
    }

    fn missing(&self) -> usize {
        let wanted = self.borrow().staffing.wanted();
        self.census().map_or(0, |census| wanted.saturating_sub(census.present))
    }

    fn tally(&self, _: Instant) -> Option<Tally> {
        let world = self.borrow();
        let tally = |worker: &Worker| match worker.state {
            State::Busy { since, .. } => {
                Tally { busy: 1, running: Duration::from_micros(world.now - since), ..worker.tally }
            }
            _ => worker.tally,
        };
        Some(world.workers.values().fold(world.staffing.kept(), |sum, worker| sum + tally(worker)))
    }

    fn standing(&self) -> usize {
        self.borrow().lanes.standing()
    }

    fn fewest_idle(&self) -> usize {
        let mut world = self.borrow_mut();
        let idle = world.idle.len();
        std::mem::replace(&mut world.fewest_idle, idle).min(idle)
    }

    fn enlist(&self) -> Result<(), SpawnError> {
        let mut world = self.borrow_mut();
        if !world.threads.0 {
            return Err(SpawnError::Limit { limit: 0, set_by: "the simulation" });
        }
        let starting = Some(world.staffing.starting());
        let (seat, id) = (world.lanes.seat(), world.hired);
        let (quit, shift, tally) = (Some(Quit::new()), Shift::default(), Tally::default());
        world.workers.insert(id, Worker { quit, state: State::Starting, starting, seat, shift, tally });
        world.hired += 1;
        world.hiring_until = world.hiring_until.max(world.now) + HIRE;
        let listens = world.hiring_until + START;
        world.at(listens, Event::Listen(id));
        world.tell_supervisor(ThreadEnd::Spawned);
        Ok(())
    }

    fn retire(&self, most: usize, whom: Whom) -> usize {
        let mut world = self.borrow_mut();
        let shows_idle = |worker: &Worker| matches!(worker.state, State::Idle | State::Handed(_));
        let stays = |worker: &Worker| worker.quit.is_some() && (whom == Whom::Any || shows_idle(worker));
        let newest = world.workers.iter().rev().filter(|(_, worker)| stays(worker)).map(|(id, _)| *id);
        let told: Vec<_> = newest.take(most).collect();
        for id in &told {
            world.worker(*id).quit = None;
            // A thread may have to wait for its turn.
            let late = if world.random.bool() { world.draw(20_000.0) } else { 0 };
            let hears = world.now + WAKE + late;
            world.at(hears, Event::Told(*id));
        }
        world.meanwhile();
        told.len()
    }

    fn listen(&self, armed: bool) {
        self.borrow_mut().meanwhile();
        self.borrow().lanes.listen(armed);
    }
}

/// One turn of the supervisor's loop, if there is anything to wake for.
pub(super) fn supervise(world: &RefCell<World>) -> Result<(), String> {
    let (staffing, at, is_look) = {
        let mut world = world.borrow_mut();
        let at = world.now;
        if at < world.hiring_until {
            let until = world.hiring_until;
            world.at(until, Event::Wake);
            return Ok(());
        }
        let is_look = at >= world.next_look;
        match world.exits.pop_front() {
            Some(ThreadEnd::Ended) => {}
            Some(ThreadEnd::Spawned) => return Ok(()),
            None if world.lanes.bell().channel().try_recv().is_ok() || is_look => {}
            None => return Ok(()),
        }
        if is_look {
            world.next_look = at + LOOK;
            let next = world.next_look;
            world.at(next, Event::Wake);
        }
        let staffing = Arc::clone(&world.staffing);
        // The roster's `reap`.
        for (_, worker) in world.workers.extract_if(.., |_, worker| matches!(worker.state, State::Over)) {
            staffing.keep(worker.tally);
        }
        (staffing, world.instant(), is_look)
    };
    let told = || {
        let stats = staffing.scaling_stats(at);
        (stats.up_total + stats.down_total, stats.down_total, *staffing.last.lock(), stats.held_total["thread_limit"])
    };
    let ((all, downs, last, refused), wanted) = (told(), staffing.wanted());
    staffing.tend(world, at, is_look);
    let (all_now, downs_now, last_now, refused_now) = told();
    let changed = last_now.filter(|(_, changed)| *changed == at);
    let explained = changed.is_some_and(|(change, _)| change.to == staffing.wanted()) || refused_now > refused;
    // Two decisions at once are one by evaluation and one on demand.
    let evaluated =
        downs_now > downs || all_now > all + 1 || changed.is_some_and(|(change, _)| change.reason != Reason::Demand);
    let in_interval = last.is_some_and(|(_, before)| at - before < Scaling::default().min_interval);
    let rules = [
        ("what is wanted changes by a decision with its reason", wanted == staffing.wanted() || explained),
        ("an evaluation changes nothing within the interval", !(evaluated && in_interval)),
    ];
    rules.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(rule, _)| Err((*rule).to_owned()))
}
