//! Lanes and the idle set: no job waits while a worker is idle, and each is had by exactly one side.

use crossbeam_channel::{Sender, bounded};
use shuttle::sync::Barrier;
use shuttle::thread::{self, JoinHandle};
use std::sync::Arc;
use std::time::Duration;

use crate::Model;
use crate::model::Priority;
use crate::queue::{Lanes, Queued, Shift, Taken};
use crate::sync::locks::classes::TEST_LEAF;
use crate::sync::{Quit, QuitSignal, Slot};

pub const MODELS: &[Model] = &[
    ("lanes::no_job_waits_while_a_worker_is_idle", 16_000, idle),
    ("lanes::two_jobs_are_at_work_at_once_where_two_workers_are", 30_000, side_by_side),
    ("lanes::a_tick_at_any_moment_loses_no_job", 12_000, tick),
    ("lanes::what_a_quitting_worker_was_handed_or_told_reaches_another", 16_000, quitting),
    ("lanes::a_quitting_worker_passes_on_the_word_that_it_was_given", 60_000, passing_on),
    ("lanes::who_stays_is_served_while_others_leave_and_turn_the_lane_over", 16_000, turning),
    ("lanes::a_sweep_finds_what_somebody_turns_over", 12_000, sweep),
];

/// A tick that never comes, so that a job left lying is a deadlock; and one that comes at any moment.
const NEVER: Duration = Duration::from_secs(60);
const OFTEN: Duration = Duration::from_millis(500);

type Job = Arc<Entry>;

#[derive(Debug)]
struct Entry(Slot<usize>, Priority);

impl Queued for Job {
    fn is_tombstone(&self) -> bool {
        !self.0.is_held()
    }
    fn priority(&self) -> Priority {
        self.1
    }
    fn since(&self) -> Option<std::time::Instant> {
        None
    }
}

fn job(number: usize) -> Job {
    let priority = if number % 2 == 0 { Priority::Interactive } else { Priority::Batch };
    Arc::new(Entry(Slot::new(&TEST_LEAF, number), priority))
}

/// Takes jobs until told to quit, and says which.
fn worker(lanes: &Arc<Lanes<Job>>, quit: QuitSignal, tick: Duration, done: Sender<usize>) -> JoinHandle<()> {
    let lanes = Arc::clone(lanes);
    thread::spawn(move || {
        let (seat, mut shift) = (lanes.seat(), Shift::default());
        loop {
            match lanes.take(&seat, &mut shift, &quit, tick) {
                Taken::Job(job) => match job.0.take() {
                    Some(number) => done.send(number).expect("the model listens"),
                    None => lanes.unbury(job.1),
                },
                Taken::Tick => {}
                Taken::Quit => return,
            }
        }
    })
}

fn producer(lanes: &Arc<Lanes<Job>>, numbers: std::ops::Range<usize>) -> JoinHandle<()> {
    let lanes = Arc::clone(lanes);
    thread::spawn(move || numbers.for_each(|number| lanes.push(job(number)).expect("a slot")))
}

/// Two producers and two workers: every job is done without anybody's help, then all end.
fn served(tick: Duration) {
    const EACH: usize = 2;
    let lanes = Arc::new(Lanes::new(4, 0.0));
    let (quit, (done, is_done)) = (Quit::new(), bounded(4));
    let workers = [(), ()].map(|()| worker(&lanes, quit.watch(), tick, done.clone()));
    let producers = [producer(&lanes, 0..EACH), producer(&lanes, EACH..2 * EACH)];
    let mut numbers: Vec<_> = (0..2 * EACH).map(|_| is_done.recv().expect("a worker is there")).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..2 * EACH), "each once");
    drop(quit);
    producers.into_iter().chain(workers).for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(lanes.sweep().count(), 0);
}

fn idle() {
    served(NEVER);
}

/// Two workers and two jobs, each of which lasts until the other is at work too: a word that its first hearer keeps for
/// itself leaves the other worker idle beside a job.
fn side_by_side() {
    let lanes = Arc::new(Lanes::<Job>::new(4, 0.0));
    let both = Arc::new(Barrier::new(2));
    let quit = Quit::new();
    let workers = [(), ()].map(|()| {
        let (lanes, both, quit) = (Arc::clone(&lanes), Arc::clone(&both), quit.watch());
        thread::spawn(move || {
            let (seat, mut shift) = (lanes.seat(), Shift::default());
            if let Taken::Job(_) = lanes.take(&seat, &mut shift, &quit, NEVER) {
                both.wait();
            }
        })
    });
    let producers = [producer(&lanes, 0..1), producer(&lanes, 1..2)];
    producers.into_iter().chain(workers).for_each(|thread| thread.join().expect("no panic"));
    drop(quit);
}

fn tick() {
    served(OFTEN);
}

/// One of two workers quits at any moment: the other does all that the first does not.
fn quitting() {
    let lanes = Arc::new(Lanes::new(4, 0.5));
    let (leaving, staying, (done, is_done)) = (Quit::new(), Quit::new(), bounded(4));
    let first = worker(&lanes, leaving.watch(), NEVER, done.clone());
    let second = worker(&lanes, staying.watch(), NEVER, done);
    let producer = producer(&lanes, 0..3);
    drop(leaving);
    let mut numbers: Vec<_> = (0..3).map(|_| is_done.recv().expect("a worker is there")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
    drop(staying);
    [producer, first, second].into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// One job and two workers, of which one quits: as few steps as can go wrong.
fn passing_on() {
    let lanes = Arc::new(Lanes::new(4, 0.0));
    let (leaving, staying, (done, is_done)) = (Quit::new(), Quit::new(), bounded(1));
    let producer = producer(&lanes, 0..1);
    let first = worker(&lanes, leaving.watch(), NEVER, done.clone());
    let second = worker(&lanes, staying.watch(), NEVER, done);
    let quitting = thread::spawn(move || drop(leaving));
    assert_eq!(is_done.recv(), Ok(0));
    drop(staying);
    [producer, first, second, quitting].into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// Waiters take their jobs back, which turns the small lane over again and again; who stays is served.
fn turning() {
    let lanes = Arc::new(Lanes::new(2, 0.0));
    let (quit, (done, is_done)) = (Quit::new(), bounded(4));
    let worker = worker(&lanes, quit.watch(), NEVER, done);
    let leaving = {
        let lanes = Arc::clone(&lanes);
        thread::spawn(move || {
            (0..2)
                .map(|_| {
                    let mine = job(100);
                    lanes.push(Arc::clone(&mine)).expect("a slot");
                    let left = mine.0.take().is_some();
                    if left {
                        lanes.bury(Priority::Interactive);
                    }
                    usize::from(!left)
                })
                .sum::<usize>()
        })
    };
    lanes.push(job(2)).expect("a slot");
    while is_done.recv().expect("the worker is there") != 2 {}
    let taken = leaving.join().expect("no panic");
    drop(quit);
    worker.join().expect("no panic");
    let left: Vec<_> = lanes.sweep().filter_map(|job| job.0.take()).collect();
    // Those of the leaver that the worker had first were done before or after the one that stayed, and none is left.
    assert!(left.is_empty() && is_done.try_iter().count() <= taken, "{left:?}");
}

/// A sweep while somebody turns the lane over finds every live job, and nothing is put back behind it.
fn sweep() {
    let lanes = Arc::new(Lanes::new(2, 0.0));
    let jobs: Vec<_> = (0..4).map(|number| job(2 * number)).collect();
    jobs.iter().for_each(|job| lanes.push(Arc::clone(job)).expect("a slot"));
    let leaver = {
        let (lanes, mine) = (Arc::clone(&lanes), jobs[..2].to_vec());
        thread::spawn(move || {
            for job in mine {
                if job.0.take().is_some() {
                    lanes.bury(Priority::Interactive);
                }
            }
        })
    };
    let found = lanes.sweep().filter(|job| job.0.take().is_some()).count();
    leaver.join().expect("no panic");
    assert!(found >= 2, "{found} of the two that stayed");
    assert_eq!(lanes.sweep().count(), 0, "nothing is put back behind a sweep");
}
