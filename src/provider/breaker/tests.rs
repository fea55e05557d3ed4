//! The circuits by example, what an operator is told of them, and all of it against a naive recount.

use proptest::prelude::*;

use super::board::MOST_MODELS;
use super::circuit::Turns;
use super::*;

const OPEN_FOR: Duration = Duration::from_secs(4);
const GOOD: Verdict = Verdict { provider: Ended::Good, model: Ended::Good };
const BAD: Verdict = Verdict { provider: Ended::Good, model: Ended::Bad };
const UNREACHABLE: Verdict = Verdict { provider: Ended::Bad, model: Ended::Silent };

fn settings() -> config::Breaker {
    config::Breaker { open_for: OPEN_FOR, ..config::Breaker::default() }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A board in a time of its own.
struct Bench {
    board: Board,
    at: Instant,
}

impl Bench {
    fn of(settings: config::Breaker) -> Self {
        let at = now();
        Self { board: Board::new(at, settings), at }
    }

    fn new() -> Self {
        Self::of(settings())
    }

    fn wait(&mut self, time: Duration) -> &mut Self {
        self.at += time;
        self
    }

    fn admit(&mut self, model: &str) -> Result<Ticket, Refusal> {
        self.board.admit(self.at, model)
    }

    fn end(&mut self, ticket: &Ticket, model: &str, verdict: Verdict) {
        self.board.end(self.at, ticket, &model.into(), verdict);
    }

    /// Calls that come and end one after the other, as far as they are let in; how many are.
    fn call(&mut self, times: usize, model: &str, verdict: Verdict) -> usize {
        let passed = |_: &usize| self.admit(model).map(|ticket| self.end(&ticket, model, verdict)).is_ok();
        (0..times).filter(passed).count()
    }

    fn state(&mut self, model: &str) -> (BreakerState, BreakerState) {
        self.board.advance(self.at);
        (self.board.state(), self.board.state_of(Some(model)))
    }
}

use BreakerState::{Closed, HalfOpen, Open};

#[test]
fn failures_in_a_row_open_the_model_and_leave_others_alone() {
    let mut bench = Bench::new();
    assert_eq!(bench.call(4, "a", BAD), 4);
    bench.call(1, "a", GOOD);
    assert_eq!(bench.call(9, "a", BAD), 5, "a success begins the row anew, and the fifth opens");
    assert_eq!(bench.state("a"), (Closed, Open));
    assert_eq!(bench.admit("a").expect_err("open"), Refusal { after: OPEN_FOR, by: Whose::Model });
    assert_eq!(bench.call(3, "b", GOOD), 3);
    assert_eq!(bench.board.refused(), 5);
}

#[test]
fn who_cannot_be_reached_is_closed_for_all_its_models() {
    let mut bench = Bench::new();
    assert_eq!(bench.call(2, "a", UNREACHABLE) + bench.call(9, "b", UNREACHABLE), 5);
    assert_eq!(bench.state("a"), (Open, Closed));
    assert_eq!(bench.wait(ms(1500)).admit("c").expect_err("open").after, ms(2500), "until it half-opens");
}

#[test]
fn a_share_opens_only_of_enough_calls_and_only_of_those_in_the_window() {
    let settings = config::Breaker { consecutive_failures: 0, ..settings() };
    let mut bench = Bench::of(settings.clone());
    assert_eq!(bench.call(20, "a", BAD), 10, "below min_requests nothing is said");
    let mut bench = Bench::of(settings);
    bench.call(11, "a", GOOD);
    assert_eq!(bench.call(20, "a", BAD), 11, "the eleventh of 22 is half of them");
    let mut bench = half_open(config::Breaker { consecutive_failures: 0, min_requests: 5, ..self::settings() });
    bench.call(100, "a", GOOD);
    bench.wait(Duration::from_secs(31)).call(6, "a", GOOD);
    assert_eq!(bench.call(20, "a", BAD), 6, "what went well before the window hides nothing");
}

#[test]
fn what_counts_for_nothing_neither_opens_nor_ends_a_row() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.call(1, "a", BAD);
        assert_eq!(bench.call(50, "a", Verdict::SILENT), 50);
    }
    bench.call(1, "a", BAD);
    assert_eq!(bench.state("a"), (Closed, Open));
}

#[test]
fn slow_calls_open_only_where_that_is_asked_for() {
    let slow = Verdict { provider: Ended::Good, model: Ended::Slow };
    let mut bench = Bench::of(config::Breaker { slow_after: Some(ms(100)), ..settings() });
    bench.call(5, "a", GOOD);
    assert_eq!(bench.call(50, "a", slow), 5);
    let breaker = Breaker::new(&"p".into(), &settings(), Events::new(), now(), None);
    assert_eq!(breaker.well(Duration::from_secs(900)), Ended::Good);
}

/// A board whose model `a` is half-open.
fn half_open(settings: config::Breaker) -> Bench {
    let mut bench = Bench::of(settings);
    bench.call(5, "a", BAD);
    bench.wait(OPEN_FOR);
    assert_eq!(bench.state("a"), (Closed, HalfOpen));
    bench
}

#[test]
fn one_probe_passes_and_decides() {
    let mut bench = half_open(settings());
    let probe = bench.admit("a").expect("a probe");
    assert!(bench.admit("a").is_err(), "one at a time");
    bench.end(&probe, "a", BAD);
    assert_eq!(bench.state("a"), (Closed, Open));
    assert_eq!(bench.admit("a").expect_err("open").after, OPEN_FOR, "as long as the first time");
    bench.wait(OPEN_FOR);
    assert_eq!(bench.call(1, "a", GOOD), 1);
    assert_eq!(bench.state("a"), (Closed, Closed));
    assert_eq!(bench.board.turns(), Turns { opened: 2, half_opened: 2, closed: 1 });
}

#[test]
fn an_abandoned_probe_gives_its_place_back() {
    let mut bench = half_open(settings());
    for _ in 0..3 {
        assert_eq!(bench.call(1, "a", Verdict::SILENT), 1);
        assert_eq!(bench.state("a"), (Closed, HalfOpen));
    }
    assert_eq!(bench.call(1, "a", GOOD), 1);
    assert_eq!(bench.state("a"), (Closed, Closed));
}

#[test]
fn a_call_that_one_circuit_refuses_leaves_no_probe_in_the_other() {
    let mut bench = half_open(settings());
    bench.call(5, "b", UNREACHABLE);
    bench.wait(OPEN_FOR);
    // The provider's own circuit is half-open now, and so is the model's, whose one place is taken.
    let probe = bench.admit("a").expect("a probe of both");
    bench.end(&probe, "a", Verdict { provider: Ended::Silent, model: Ended::Silent });
    let held = bench.admit("a").expect("both places are back");
    assert_eq!(bench.admit("b").expect_err("the provider's one place is taken").by, Whose::Provider);
    bench.end(&held, "a", Verdict { provider: Ended::Good, model: Ended::Silent });
    assert_eq!(bench.state("a"), (Closed, HalfOpen));
}

#[test]
fn a_probe_that_hangs_lends_its_place_on_and_its_late_failure_counts_for_nothing() {
    let mut bench = half_open(settings());
    let hung = bench.admit("a").expect("a probe");
    assert_eq!(bench.wait(ms(3999)).admit("a").expect_err("its place").after, ms(1));
    let second = bench.wait(ms(1)).admit("a").expect("its place is lent on");
    bench.end(&hung, "a", BAD);
    assert_eq!(bench.state("a"), (Closed, HalfOpen));
    bench.end(&second, "a", GOOD);
    assert_eq!(bench.state("a"), (Closed, Closed));
}

#[test]
fn so_many_probes_pass_as_there_are_places_and_all_must_go_well() {
    let mut bench = half_open(config::Breaker { half_open_probes: 3, ..settings() });
    let probes: Vec<_> = (0..3).map(|_| bench.admit("a").expect("a place")).collect();
    assert!(bench.admit("a").is_err());
    bench.end(&probes[0], "a", GOOD);
    bench.end(&probes[1], "a", GOOD);
    assert!(bench.admit("a").is_err(), "three in all");
    assert_eq!(bench.state("a"), (Closed, HalfOpen));
    bench.end(&probes[2], "a", GOOD);
    assert_eq!(bench.state("a"), (Closed, Closed));
}

#[test]
fn a_ramp_lets_a_few_in_at_a_time_and_is_over_soon() {
    let mut bench = half_open(settings());
    bench.call(1, "a", GOOD);
    let mut under_way: Vec<_> = std::iter::from_fn(|| bench.admit("a").ok()).collect();
    let first = under_way.len();
    assert!((2..20).contains(&first), "{first}");
    let refused = bench.admit("a").expect_err("the ramp");
    assert!(refused.after <= Duration::from_secs(2), "{refused:?}");
    under_way.drain(..).for_each(|ticket| bench.end(&ticket, "a", GOOD));
    under_way.extend(std::iter::from_fn(|| bench.admit("a").ok()));
    assert_eq!(under_way.len(), 2 * first, "one more with each that went well");
    bench.wait(Duration::from_secs(2));
    assert!((0..1000).all(|_| bench.admit("a").is_ok()), "whatever became of them");
    assert!(bench.board.is_calm());
}

#[test]
fn on_the_ramp_it_opens_as_soon_as_more_have_failed_than_gone_well() {
    let mut bench = half_open(settings());
    bench.call(1, "a", GOOD);
    assert_eq!(bench.call(9, "a", BAD), 2, "the probe went well, so one may fail");
    assert_eq!(bench.state("a"), (Closed, Open));
}

#[test]
fn a_stream_that_begins_well_closes_and_one_that_is_cut_then_opens_at_once() {
    let mut bench = half_open(settings());
    let mut probe = bench.admit("a").expect("a probe");
    bench.board.begun(bench.at, &mut probe, &"a".into());
    assert_eq!(bench.state("a"), (Closed, Closed), "nobody waits for the end of a long stream");
    bench.end(&probe, "a", BAD);
    assert_eq!(bench.state("a"), (Closed, Open));
}

#[test]
fn who_was_let_in_before_it_opened_is_not_sent_and_says_nothing_any_more() {
    let mut bench = Bench::new();
    let old: Vec<_> = (0..9).map(|_| bench.admit("a").expect("closed")).collect();
    let other = bench.admit("b").expect("closed");
    old[..5].iter().for_each(|ticket| bench.end(ticket, "a", BAD));
    assert!(!bench.board.may_send(&old[5], "a") && bench.board.may_send(&other, "b"));
    bench.wait(OPEN_FOR);
    let probe = bench.admit("a").expect("a probe");
    assert!(bench.board.may_send(&probe, "a"));
    bench.end(&old[5], "a", BAD);
    bench.end(&old[6], "a", GOOD);
    assert_eq!((bench.state("a"), bench.admit("a").is_err()), ((Closed, HalfOpen), true));
    bench.end(&probe, "a", GOOD);
    old[7..].iter().for_each(|ticket| bench.end(ticket, "a", BAD));
    assert_eq!(bench.state("a"), (Closed, Closed));
}

#[test]
fn an_operator_goes_before_what_is_counted() {
    let mut bench = Bench::new();
    let queued = bench.admit("a").expect("closed");
    bench.board.set_mode(bench.at, BreakerMode::Open);
    assert_eq!(bench.admit("a").expect_err("by hand").by, Whose::Operator);
    assert!(!bench.board.may_send(&queued, "a"));
    bench.wait(Duration::from_secs(3600));
    assert_eq!(bench.state("a").0, Open, "until somebody says otherwise");
    bench.board.set_mode(bench.at, BreakerMode::Closed);
    assert_eq!(bench.call(50, "a", BAD) + bench.call(50, "a", UNREACHABLE), 100);
    assert_eq!(bench.state("a").0, Closed);
    bench.board.set_mode(bench.at, BreakerMode::Auto);
    assert_eq!(bench.call(50, "a", BAD), 5, "by what comes from now on");
    bench.board.set_mode(bench.at, BreakerMode::Closed);
    bench.board.set_mode(bench.at, BreakerMode::Auto);
    assert_eq!(bench.call(1, "a", GOOD), 1, "a circuit that was open is closed");
    assert_eq!(bench.board.turns(), Turns { opened: 2, half_opened: 0, closed: 2 });
}

#[test]
fn the_table_of_models_is_bounded_and_keeps_what_is_open() {
    let mut bench = Bench::new();
    bench.call(5, "open", BAD);
    for n in 0..2 * MOST_MODELS {
        bench.wait(ms(1)).call(1, &n.to_string(), GOOD);
    }
    assert_eq!((bench.board.models().count(), bench.state("open")), (MOST_MODELS, (Closed, Open)));
    assert_eq!(bench.board.turns().opened, 1);
}

#[test]
fn each_change_is_told_and_an_alert_stands_until_it_closes() {
    let (events, name) = (Events::new(), "p".into());
    let wish = config::Breaker { open_for: ms(1), ..settings() };
    let breaker = Breaker::new(&name, &wish, events.clone(), now(), None);
    let model: Arc<str> = "m".into();
    for _ in 0..5 {
        let ticket = breaker.enter(&model).expect("closed");
        breaker.end(&ticket, &model, BAD);
    }
    let alerts = || events.alerts().into_iter().map(|alert| (alert.kind, alert.subject)).collect::<Vec<_>>();
    assert_eq!(alerts(), [(ALERT, "p/m".to_owned())]);
    breaker.tick(now() + ms(1));
    assert_eq!(alerts().len(), 1, "half-open is not closed");
    let error = breaker.enter(&model).and_then(|_| breaker.enter(&model)).expect_err("one probe");
    assert_eq!(error.code(), Code::CircuitOpen);
    breaker.set_mode(BreakerMode::Open);
    assert_eq!(alerts(), [(ALERT, "p".to_owned())]);
    let told: Vec<_> = events.list().into_iter().filter(|event| event.kind == EVENT).collect();
    let states: Vec<_> = told.iter().map(|event| event.message.split(':').next().unwrap_or_default()).collect();
    assert_eq!(states, ["open", "half_open", "closed", "open"]);
    drop(breaker);
    assert!(alerts().is_empty(), "it goes with its provider");
}

/// One step of a random run.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Enter(usize),
    Begin(usize),
    End(usize, Ended, Ended),
}

fn step() -> impl Strategy<Value = Step> {
    let ended =
        || prop_oneof![3 => Just(Ended::Good), 4 => Just(Ended::Bad), 1 => Just(Ended::Slow), 1 => Just(Ended::Silent)];
    let provider = prop_oneof![6 => Just(Ended::Good), 2 => Just(Ended::Bad), 1 => Just(Ended::Silent)];
    prop_oneof![
        2 => prop_oneof![0..60u64, 300..700u64].prop_map(Step::Wait),
        5 => (0..2usize).prop_map(Step::Enter),
        1 => any::<usize>().prop_map(Step::Begin),
        5 => (any::<usize>(), provider, ended()).prop_map(|(who, provider, model)| Step::End(who, provider, model)),
    ]
}

/// What a circuit must do, by a log of all that happened to it, counted anew at each question.
struct Naive {
    wish: config::Breaker,
    state: BreakerState,
    /// When it came into that state, and the number of the call that was let in last before it opened.
    since: Instant,
    opened_after: usize,
    begin: Instant,
    log: Vec<(Instant, Ended)>,
    probes: Vec<(usize, Instant)>,
    good: u32,
    ramp: Option<(usize, Vec<usize>, u32)>,
}

impl Naive {
    fn new(wish: &config::Breaker, begin: Instant) -> Self {
        let wish = wish.clone();
        Self {
            wish,
            state: Closed,
            since: begin,
            opened_after: 0,
            begin,
            log: Vec::new(),
            probes: Vec::new(),
            good: 0,
            ramp: None,
        }
    }

    fn look(&mut self, now: Instant) {
        if self.state == Open && now - self.since >= self.wish.open_for {
            (self.state, self.since, self.good) = (HalfOpen, now, 0);
            self.probes.clear();
        }
        if self.state == Closed && now - self.since >= self.wish.open_for.min(Duration::from_secs(2)) {
            self.ramp = None;
        }
        self.probes.retain(|(_, at)| now - *at < self.wish.open_for);
    }

    fn may_enter(&mut self, now: Instant) -> bool {
        self.look(now);
        match self.state {
            Closed => self.ramp.as_ref().is_none_or(|(_, inside, allowed)| inside.len() < *allowed as usize),
            Open => false,
            HalfOpen => self.probes.len() + (self.good as usize) < self.wish.half_open_probes as usize,
        }
    }

    fn enter(&mut self, now: Instant, call: usize) {
        match (&mut self.ramp, self.state) {
            (_, HalfOpen) => self.probes.push((call, now)),
            (Some((_, inside, _)), Closed) => inside.push(call),
            _ => {}
        }
    }

    fn leave(&mut self, call: usize) -> (bool, bool) {
        let before = (self.probes.len(), self.ramp.as_ref().map(|(_, inside, _)| inside.len()));
        self.probes.retain(|(probe, _)| *probe != call);
        if let Some((_, inside, _)) = &mut self.ramp {
            inside.retain(|inside| *inside != call);
        }
        (before.0 > self.probes.len(), before.1 > self.ramp.as_ref().map(|(_, inside, _)| inside.len()))
    }

    fn close_if_all_good(&mut self, now: Instant, began: bool) {
        self.good += 1;
        if self.good == self.wish.half_open_probes {
            (self.state, self.since, self.begin) = (Closed, now, now);
            self.log.clear();
            self.probes.clear();
            self.ramp = Some((usize::from(began), Vec::new(), 8));
        }
    }

    fn begin(&mut self, now: Instant, call: usize, was_probe: bool) {
        self.look(now);
        if call < self.opened_after {
            return;
        }
        let (_, of_ramp) = self.leave(call);
        if self.state == HalfOpen && was_probe {
            self.close_if_all_good(now, true);
        } else if let (true, Some((_, _, allowed))) = (of_ramp, &mut self.ramp) {
            *allowed += 1;
        }
    }

    fn end(&mut self, now: Instant, calls: usize, call: usize, was_probe: bool, ended: Ended) {
        self.look(now);
        if call < self.opened_after {
            return;
        }
        let (held, _) = self.leave(call);
        let opens = match (self.state, ended) {
            (_, Ended::Silent) | (Open, _) => false,
            (HalfOpen, _) if !was_probe => false,
            (HalfOpen, Ended::Good) => {
                self.close_if_all_good(now, false);
                false
            }
            (HalfOpen, _) => held,
            (Closed, _) => {
                self.log.push((now, ended));
                if let (Some((_, _, allowed)), true) = (&mut self.ramp, ended != Ended::Bad) {
                    *allowed += 1;
                }
                ended != Ended::Good && self.is_too_bad(now)
            }
        };
        if opens {
            (self.state, self.since, self.opened_after) = (Open, now, calls);
            self.ramp = None;
        }
    }

    fn is_too_bad(&self, now: Instant) -> bool {
        let count = |wanted: Ended, log: &[(Instant, Ended)]| log.iter().filter(|(_, ended)| *ended == wanted).count();
        let row = self.log.iter().rev().take_while(|(_, ended)| *ended == Ended::Bad).count();
        let part = |at: Instant| (at - self.begin).as_nanos() / (self.wish.window / 10).as_nanos();
        let recent: Vec<_> = self.log.iter().copied().filter(|(at, _)| part(*at) + 10 > part(now)).collect();
        let of_ramp = self.ramp.as_ref().is_some_and(|(began, ..)| {
            let bad = count(Ended::Bad, &self.log);
            // The probe that closed it went well; one that only began has said nothing.
            bad > self.log.len() - bad + 1 - began
        });
        let enough = recent.len() >= self.wish.min_requests as usize;
        let share = |wanted, share: f64| count(wanted, &recent) as f64 >= share * recent.len() as f64;
        of_ramp
            || row >= self.wish.consecutive_failures as usize
            || enough && (share(Ended::Bad, self.wish.failure_ratio) || share(Ended::Slow, self.wish.slow_ratio))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Two models and their provider against three naive circuits.
    #[test]
    fn it_does_what_a_naive_recount_says(
        steps in prop::collection::vec(step(), 1..250),
        half_open_probes in 1..4u32,
        consecutive_failures in 3..7u32,
        ratio in prop_oneof![Just(0.25), Just(0.5), Just(0.9)],
    ) {
        let wish = config::Breaker {
            failure_ratio: ratio,
            min_requests: 6,
            window: Duration::from_secs(1),
            consecutive_failures,
            open_for: ms(500),
            half_open_probes,
            slow_after: Some(ms(1)),
            slow_ratio: 0.5,
            ..config::Breaker::default()
        };
        let names: [Arc<str>; 2] = ["a".into(), "b".into()];
        let mut bench = Bench::of(wish.clone());
        let mut own = Naive::new(&wish, bench.at);
        // A model's circuit begins with its first counted call.
        let mut models: [Option<Naive>; 2] = [None, None];
        let mut under_way: Vec<(usize, usize, Ticket, [bool; 2])> = Vec::new();
        let mut calls = 0;
        for step in steps {
            match step {
                Step::Wait(time) => drop(bench.wait(ms(time))),
                Step::Enter(model) => {
                    let free = models[model].as_mut().is_none_or(|naive| naive.may_enter(bench.at));
                    let expected = own.may_enter(bench.at) && free;
                    let admitted = bench.admit(&names[model]);
                    prop_assert_eq!(admitted.is_ok(), expected);
                    if let Ok(ticket) = admitted {
                        calls += 1;
                        let probes = [Some(&mut own), models[model].as_mut()].map(|naive| {
                            naive.is_some_and(|naive| {
                                naive.enter(bench.at, calls);
                                naive.state == HalfOpen
                            })
                        });
                        under_way.push((calls, model, ticket, probes));
                    }
                }
                Step::Begin(who) if !under_way.is_empty() => {
                    let place = who % under_way.len();
                    let (call, model, ticket, probes) = &mut under_way[place];
                    bench.board.begun(bench.at, ticket, &names[*model]);
                    own.begin(bench.at, *call, probes[0]);
                    if let Some(naive) = &mut models[*model] {
                        naive.begin(bench.at, *call, probes[1]);
                    }
                    *probes = [false; 2];
                }
                Step::End(who, provider, ended) if !under_way.is_empty() => {
                    let (call, model, ticket, probes) = under_way.swap_remove(who % under_way.len());
                    bench.end(&ticket, &names[model], Verdict { provider, model: ended });
                    own.end(bench.at, calls + 1, call, probes[0], provider);
                    if models[model].is_none() && ended != Ended::Silent {
                        models[model] = Some(Naive::new(&wish, bench.at));
                    }
                    if let Some(naive) = &mut models[model] {
                        naive.end(bench.at, calls + 1, call, probes[1], ended);
                    }
                }
                Step::Begin(_) | Step::End(..) => {}
            }
            bench.board.advance(bench.at);
            own.look(bench.at);
            prop_assert_eq!(bench.board.state(), own.state);
            let mut restless = usize::from(own.state != Closed || own.ramp.is_some());
            for (name, naive) in names.iter().zip(&mut models) {
                let state = naive.as_mut().map_or(Closed, |naive| { naive.look(bench.at); naive.state });
                prop_assert_eq!(bench.board.state_of(Some(name)), state);
                restless += usize::from(naive.as_ref().is_some_and(|n| n.state != Closed || n.ramp.is_some()));
            }
            prop_assert_eq!(bench.board.is_calm(), restless == 0);
        }
    }
}
