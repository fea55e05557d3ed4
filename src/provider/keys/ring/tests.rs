//! The ring against tables, and against a naive one that writes everything down and looks through all of it each time.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::time::now;

fn any(weight: f64) -> Spec {
    Spec { weight, models: KeyModels::Any }
}

fn only(weight: f64, models: &[&str]) -> Spec {
    Spec { weight, models: KeyModels::Only(models.iter().map(|model| (*model).to_owned()).collect()) }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The keys of so many turns, each taken by the provider.
fn turns(ring: &mut Ring, model: &str, count: usize, now: Instant) -> Vec<usize> {
    let one = |_| {
        let turn = ring.next(model, now).expect("a key can go");
        let key = turn.key;
        assert_eq!(ring.settle(turn, model, Verdict::Taken, now), None);
        key
    };
    (0..count).map(one).collect()
}

/// Gives the next turn this end, and tells whose it was.
fn end(ring: &mut Ring, model: &str, verdict: Verdict, now: Instant) -> (usize, Option<Change>) {
    let turn = ring.next(model, now).expect("a key can go");
    (turn.key, ring.settle(turn, model, verdict, now))
}

fn refused(ring: &mut Ring, model: &str, now: Instant) -> NoTurn {
    ring.next(model, now).map(|turn| turn.key).expect_err("no key can go")
}

#[test]
fn keys_take_turns_smoothly_by_their_weights() {
    for (weights, round) in [
        (&[1.0][..], &[0, 0, 0][..]),
        (&[1.0, 1.0], &[0, 1]),
        (&[5.0, 1.0, 1.0], &[0, 0, 1, 0, 2, 0, 0]),
        (&[0.5, 0.25, 0.25], &[0, 1, 2, 0]),
        (&[0.0, 2.0, 0.0, 2.0], &[1, 3]),
        // No share anywhere is the same for everybody.
        (&[0.0, 0.0], &[0, 1]),
        (&[0.0], &[0]),
    ] {
        let specs: Vec<_> = weights.iter().map(|weight| any(*weight)).collect();
        let mut ring = Ring::new(&specs);
        for _ in 0..3 {
            assert_eq!(turns(&mut ring, "m", round.len(), now()), round, "{weights:?}");
        }
    }
}

#[test]
fn a_hundred_keys_each_go_once_in_a_round() {
    let mut ring = Ring::new(&vec![any(1.0); 100]);
    for _ in 0..3 {
        let gone: BTreeSet<_> = turns(&mut ring, "m", 100, now()).into_iter().collect();
        assert_eq!(gone.len(), 100);
    }
}

#[test]
fn a_key_goes_for_its_models_alone() {
    let mut ring = Ring::new(&[only(1.0, &["a", "b"]), only(1.0, &["b"]), any(1.0), only(0.0, &["c", "b"])]);
    assert_eq!(turns(&mut ring, "a", 4, now()), [0, 2, 0, 2]);
    assert_eq!(turns(&mut ring, "b", 6, now()), [0, 1, 2, 0, 1, 2], "the one without a share gets nothing");
    assert_eq!(turns(&mut ring, "c", 2, now()), [2, 2]);
    assert_eq!(turns(&mut ring, "else", 2, now()), [2, 2]);
    assert_eq!(turns(&mut ring, "", 2, now()), [2, 2], "what names no model goes with a key for any");
    let mut ring = Ring::new(&[only(1.0, &["a"]), only(0.0, &["b"]), only(2.0, &["c"])]);
    assert_eq!(turns(&mut ring, "b", 2, now()), [1, 1], "it is the only one for that");
    assert_eq!(refused(&mut ring, "d", now()), NoTurn::NoKey);
    assert_eq!(turns(&mut ring, "", 3, now()), [2, 0, 2], "where no key is for any model, every key will do");
    assert_eq!(refused(&mut Ring::new(&[]), "", now()), NoTurn::NoKey);
}

#[test]
fn a_429_cools_its_key_for_that_model_by_its_word_else_for_five_seconds() {
    for (after, until) in [(None, secs(5)), (Some(secs(2)), secs(2)), (Some(Duration::from_millis(30)), secs(0))] {
        let until = until.max(after.unwrap_or_default());
        let mut ring = Ring::new(&[any(1.0), any(1.0)]);
        let start = now();
        assert_eq!(end(&mut ring, "m", Verdict::Cools(after), start), (0, None));
        assert!(!ring.is_calm());
        let view = ring.view(0, start);
        assert_eq!((view.state, view.resting.get("m")), ("cooling", Some(&until)));
        assert_eq!(ring.view(1, start).state, "ready");
        let just_before = start + until - Duration::from_nanos(1);
        assert_eq!(turns(&mut ring, "m", 3, just_before), [1, 1, 1]);
        assert_eq!(turns(&mut ring, "n", 2, just_before), [1, 0], "limits are a model's own");
        assert_eq!(turns(&mut ring, "m", 4, start + until), [1, 0, 1, 0], "it comes back without a burst");
        let view = ring.view(0, start + until);
        assert_eq!((view.state, view.resting.len()), ("ready", 0));
        turns(&mut ring, "m", 1, start + until + TIDY_EVERY);
        assert!(ring.is_calm());
    }
}

#[test]
fn a_429_that_says_to_come_at_once_cools_nothing() {
    let mut ring = Ring::new(&[any(1.0)]);
    assert_eq!(end(&mut ring, "m", Verdict::Cools(Some(Duration::ZERO)), now()), (0, None));
    assert!(ring.is_calm());
}

#[test]
fn many_who_see_one_429_cool_its_key_once() {
    let mut ring = Ring::new(&[any(1.0)]);
    let start = now();
    let mut in_flight: Vec<_> = (0..50).map(|_| ring.next("m", start).expect("it is ready")).collect();
    let mut give = |ring: &mut Ring, after: Option<Duration>, at| {
        let turn = in_flight.pop().expect("one is left");
        assert_eq!(ring.settle(turn, "m", Verdict::Cools(after), at), None);
    };
    give(&mut ring, None, start);
    // What was sent before and says nothing of when makes it no longer; the provider's word does, and never shorter.
    for (after, at, until) in [
        (None, 4, 5),
        (Some(secs(3)), 1, 5),
        (Some(secs(3)), 4, 7),
        (None, 6, 7),
        (Some(secs(0)), 6, 7),
        (Some(secs(1)), 6, 7),
        (None, 7, 12),
    ] {
        give(&mut ring, after, start + secs(at));
        assert_eq!(refused(&mut ring, "m", start + secs(at)), NoTurn::Cooling(start + secs(until)));
    }
    // An answer to what was sent before makes nobody warm.
    let turn = in_flight.pop().expect("one is left");
    assert_eq!(ring.settle(turn, "m", Verdict::Taken, start + secs(8)), None);
    assert_eq!(refused(&mut ring, "m", start + secs(8)), NoTurn::Cooling(start + secs(12)));
}

#[test]
fn a_refused_key_is_dead_and_tried_again_by_one_call_at_a_time() {
    let mut ring = Ring::new(&[any(1.0), any(1.0)]);
    let mut at = now();
    assert_eq!(end(&mut ring, "m", Verdict::Refused, at), (0, Some(Change::Died)));
    assert_eq!(ring.view(0, at).state, "dead");
    for waited in [5, 10, 20, 40, 60, 60] {
        assert_eq!(turns(&mut ring, "n", 2, at + secs(waited) - Duration::from_nanos(1)), [1, 1]);
        at += secs(waited);
        let turn = ring.next("m", at).expect("it is due");
        assert_eq!(turn.key, 0);
        assert_eq!(turns(&mut ring, "m", 2, at), [1, 1], "one call tries it, and no other");
        assert_eq!(ring.settle(turn, "m", Verdict::Refused, at), None, "it was dead before");
    }
    // A call that is given up, or says nothing of the key, leaves its place to the next.
    at += secs(60);
    for _ in 0..3 {
        assert_eq!(end(&mut ring, "m", Verdict::Nothing, at), (0, None));
    }
    assert_eq!(end(&mut ring, "m", Verdict::Taken, at), (0, Some(Change::Revived)));
    assert!(ring.is_calm());
    assert_eq!(turns(&mut ring, "m", 4, at), [1, 0, 1, 0], "it takes its turns again");
}

#[test]
fn late_words_on_a_dead_key_neither_revive_it_nor_keep_it_dead_for_longer() {
    let mut ring = Ring::new(&[any(1.0)]);
    let start = now();
    let late: Vec<_> = (0..3).map(|_| ring.next("m", start).expect("it is ready")).collect();
    assert_eq!(end(&mut ring, "m", Verdict::Refused, start), (0, Some(Change::Died)));
    for (turn, verdict) in late.into_iter().zip([Verdict::Refused, Verdict::Taken, Verdict::Cools(None)]) {
        assert_eq!(ring.settle(turn, "m", verdict, start + secs(4)), None);
    }
    assert_eq!(refused(&mut ring, "m", start + secs(4)), NoTurn::Refused);
    assert_eq!(end(&mut ring, "m", Verdict::Taken, start + secs(5)), (0, Some(Change::Revived)));
}

#[test]
fn a_key_that_is_refused_for_a_model_goes_for_the_others() {
    let mut ring = Ring::new(&[any(1.0)]);
    let start = now();
    assert_eq!(end(&mut ring, "m", Verdict::RefusedForModel, start), (0, None));
    assert_eq!(refused(&mut ring, "m", start), NoTurn::Refused);
    assert_eq!(turns(&mut ring, "n", 2, start), [0, 0]);
    let view = ring.view(0, start);
    assert_eq!((view.state, view.resting.get("m")), ("cooling", Some(&secs(5))));
    // One call tries it; the wait doubles.
    let turn = ring.next("m", start + secs(5)).expect("it is due");
    assert_eq!(refused(&mut ring, "m", start + secs(5)), NoTurn::Refused);
    assert_eq!(ring.settle(turn, "m", Verdict::RefusedForModel, start + secs(5)), None);
    assert_eq!(refused(&mut ring, "m", start + secs(14)), NoTurn::Refused);
    assert_eq!(end(&mut ring, "m", Verdict::Nothing, start + secs(15)).0, 0);
    // That it is used too much says that it may be used.
    assert_eq!(end(&mut ring, "m", Verdict::Cools(Some(secs(1))), start + secs(15)), (0, None));
    assert_eq!(refused(&mut ring, "m", start + secs(15)), NoTurn::Cooling(start + secs(16)));
    assert_eq!(turns(&mut ring, "m", 2, start + secs(16)), [0, 0]);
}

#[test]
fn what_a_try_of_a_dead_key_comes_to_goes_for_the_key_and_for_the_model() {
    for (verdict, state, change) in [
        (Verdict::Taken, "ready", Some(Change::Revived)),
        (Verdict::Cools(None), "cooling", Some(Change::Revived)),
        (Verdict::RefusedForModel, "cooling", Some(Change::Revived)),
        (Verdict::Refused, "dead", None),
        (Verdict::Nothing, "dead", None),
    ] {
        let mut ring = Ring::new(&[any(1.0)]);
        let start = now();
        end(&mut ring, "m", Verdict::Refused, start);
        assert_eq!(end(&mut ring, "m", verdict, start + secs(5)), (0, change), "{verdict:?}");
        assert_eq!(ring.view(0, start + secs(5)).state, state, "{verdict:?}");
    }
}

#[test]
fn keys_that_cool_will_be_back_and_keys_that_are_refused_may_not() {
    let start = now();
    let rest = |verdicts: &[Verdict]| {
        let mut ring = Ring::new(&vec![any(1.0); verdicts.len()]);
        for verdict in verdicts {
            end(&mut ring, "m", *verdict, start);
        }
        refused(&mut ring, "m", start)
    };
    let cools = |after| Verdict::Cools(Some(secs(after)));
    assert_eq!(rest(&[cools(9), cools(3), cools(7)]), NoTurn::Cooling(start + secs(3)));
    assert_eq!(rest(&[Verdict::Refused, cools(9), Verdict::RefusedForModel]), NoTurn::Cooling(start + secs(9)));
    assert_eq!(rest(&[Verdict::Refused, Verdict::RefusedForModel]), NoTurn::Refused);
}

#[test]
fn a_key_that_came_to_rest_before_it_was_sent_is_changed_for_another() {
    for (verdict, left) in [
        (Verdict::Cools(Some(secs(9))), NoTurn::Cooling as fn(Instant) -> NoTurn),
        (Verdict::Refused, |_| NoTurn::Refused),
        (Verdict::RefusedForModel, |_| NoTurn::Refused),
    ] {
        let mut ring = Ring::new(&[any(1.0), any(1.0)]);
        let start = now();
        let mut waits: Vec<_> = (0..6).map(|_| ring.next("m", start).expect("it is ready")).collect();
        let mut renewed = |ring: &mut Ring| ring.renew(waits.remove(0), "m", start).map(|turn| turn.key);
        assert_eq!((renewed(&mut ring), renewed(&mut ring)), (Ok(0), Ok(1)), "nothing rests");
        end(&mut ring, "m", verdict, start);
        assert_eq!((renewed(&mut ring), renewed(&mut ring)), (Ok(1), Ok(1)), "{verdict:?}");
        end(&mut ring, "m", verdict, start);
        assert_eq!(renewed(&mut ring), Err(left(start + secs(9))), "{verdict:?}");
    }
    // A call that is to try its key does.
    let mut ring = Ring::new(&[any(1.0)]);
    let start = now();
    end(&mut ring, "m", Verdict::Refused, start);
    let turn = ring.next("m", start + secs(5)).expect("it is due");
    assert_eq!(ring.renew(turn, "m", start + secs(5)).map(|turn| turn.tries), Ok(Some(Tries::Key)));
}

#[test]
fn no_stream_of_names_fills_the_memory() {
    let mut ring = Ring::new(&[any(1.0), any(1.0)]);
    let start = now();
    for nth in 0..10 * MOST_MODELS {
        let after = secs(3600 + nth as u64);
        end(&mut ring, &format!("m{nth}"), Verdict::Cools(Some(after)), start);
        assert!(ring.resting.len() <= MOST_MODELS);
    }
    let kept = ring.view(0, start).resting.len() + ring.view(1, start).resting.len();
    assert_eq!(kept, MOST_MODELS);
    assert!(ring.resting.contains_key(&format!("m{}", 10 * MOST_MODELS - 1)), "who rests longest is remembered");
    for long in ["m".repeat(10 * LONGEST_NAME), "é".repeat(LONGEST_NAME)] {
        let last = secs(9999);
        let mut ring = Ring::new(&[any(1.0)]);
        end(&mut ring, &long, Verdict::Cools(Some(last)), start);
        assert!(ring.resting.keys().all(|model| model.len() <= LONGEST_NAME));
        assert_eq!(refused(&mut ring, &long, start), NoTurn::Cooling(start + last));
    }
}

/// What happens to a ring.
#[derive(Clone, Debug)]
enum Step {
    Next(usize),
    End(usize, Verdict),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![Just(None), (0u64..20).prop_map(|after| Some(secs(after)))];
    let verdict = prop_oneof![
        3 => Just(Verdict::Taken),
        1 => Just(Verdict::Nothing),
        3 => after.prop_map(Verdict::Cools),
        2 => Just(Verdict::Refused),
        2 => Just(Verdict::RefusedForModel),
    ];
    prop_oneof![
        4 => (0..MODELS.len()).prop_map(Step::Next),
        4 => (0usize..64, verdict).prop_map(|(nth, verdict)| Step::End(nth, verdict)),
        1 => (0u64..15).prop_map(Step::Wait),
    ]
}

const MODELS: [&str; 4] = ["a", "b", "c", ""];

/// A refusal, written down: since when, after how many refused tries, and whether one is under way.
#[derive(Clone, Copy, Debug)]
struct Written {
    due: Instant,
    refusals: u32,
    tried: bool,
}

/// A ring that writes everything down.
#[derive(Default)]
struct Naive {
    dead: HashMap<usize, Written>,
    barred: HashMap<(usize, String), Written>,
    cool: HashMap<(usize, String), Instant>,
}

impl Naive {
    fn due(refusals: u32, now: Instant) -> Instant {
        now + secs([5, 10, 20, 40, 60][refusals.min(4) as usize])
    }

    /// Whether a key is to be tried, and whether it may just go.
    fn standing(&self, key: usize, model: &str, now: Instant) -> (bool, bool) {
        let place = (key, model.to_owned());
        let due = |written: &Written| !written.tried && written.due <= now;
        match (self.dead.get(&key), self.barred.get(&place)) {
            (Some(written), _) | (None, Some(written)) => (due(written), false),
            (None, None) => (false, self.cool.get(&place).is_none_or(|until| *until <= now)),
        }
    }

    fn refuse(written: Option<&mut Written>, is_try: bool, now: Instant) -> Option<Written> {
        match written {
            Some(written) if is_try => {
                let refusals = written.refusals + 1;
                *written = Written { due: Self::due(refusals, now), refusals, tried: false };
                None
            }
            Some(_) => None,
            None => Some(Written { due: Self::due(0, now), refusals: 0, tried: false }),
        }
    }

    fn settle(&mut self, turn: &Turn, model: &str, verdict: Verdict, now: Instant) {
        let (key, place) = (turn.key, (turn.key, model.to_owned()));
        let (of_key, of_model) = (turn.tries == Some(Tries::Key), turn.tries == Some(Tries::Model));
        if of_key && !matches!(verdict, Verdict::Nothing | Verdict::Refused) {
            self.dead.remove(&key);
        }
        if of_model && matches!(verdict, Verdict::Taken | Verdict::Cools(_)) {
            self.barred.remove(&place);
        }
        match verdict {
            Verdict::Refused => {
                let new = Self::refuse(self.dead.get_mut(&key), of_key, now);
                self.dead.extend(new.map(|written| (key, written)));
            }
            Verdict::RefusedForModel => {
                let new = Self::refuse(self.barred.get_mut(&place), of_model, now);
                // Why it rests is one thing, and this is the later word.
                if new.is_some() {
                    self.cool.remove(&place);
                }
                self.barred.extend(new.map(|written| (place.clone(), written)));
            }
            Verdict::Cools(after) if !self.barred.contains_key(&place) => {
                let until = now + after.unwrap_or(secs(5));
                let old = self.cool.get(&place).copied().filter(|old| *old > now);
                if until > now && (after.is_some() || old.is_none()) {
                    self.cool.insert(place.clone(), old.map_or(until, |old| old.max(until)));
                }
            }
            _ => {}
        }
        for (tries, written) in [(of_key, self.dead.get_mut(&key)), (of_model, self.barred.get_mut(&place))] {
            written.filter(|_| tries).into_iter().for_each(|written| written.tried = false);
        }
    }
}

proptest! {
    #[test]
    fn a_ring_gives_what_a_naive_one_allows(steps in proptest::collection::vec(step(), 1..200)) {
        let specs = [only(2.0, &["a", "b"]), any(1.0), only(0.0, &["a", "c"]), any(0.0), only(3.0, &["b"])];
        let mine: [&[usize]; 4] = [&[0, 1], &[0, 1, 4], &[1], &[1]];
        let mut ring = Ring::new(&specs);
        let mut naive = Naive::default();
        let mut under_way: Vec<(Turn, &str)> = Vec::new();
        let mut at = now();
        for step in steps {
            match step {
                Step::Wait(wait) => at += secs(wait),
                Step::End(nth, verdict) if !under_way.is_empty() => {
                    let (turn, model) = under_way.swap_remove(nth % under_way.len());
                    naive.settle(&turn, model, verdict, at);
                    ring.settle(turn, model, verdict, at);
                }
                Step::End(..) => {}
                Step::Next(nth) => {
                    let model = MODELS[nth];
                    let stand: Vec<_> = mine[nth].iter().map(|key| (*key, naive.standing(*key, model, at))).collect();
                    let due = stand.iter().find(|(_, (due, _))| *due).map(|(key, _)| *key);
                    match ring.next(model, at) {
                        Ok(turn) => {
                            prop_assert_eq!(turn.tries.is_some(), due.is_some());
                            match due {
                                Some(due) => prop_assert_eq!(turn.key, due),
                                None => prop_assert!(stand.contains(&(turn.key, (false, true)))),
                            }
                            match turn.tries {
                                Some(Tries::Key) => naive.dead.get_mut(&turn.key).expect("dead").tried = true,
                                Some(Tries::Model) => {
                                    let place = (turn.key, model.to_owned());
                                    naive.barred.get_mut(&place).expect("barred").tried = true;
                                }
                                None => {}
                            }
                            under_way.push((turn, model));
                        }
                        Err(why) => {
                            prop_assert!(stand.iter().all(|(_, standing)| *standing == (false, false)));
                            let cool = |key: &usize| {
                                let place = (*key, model.to_owned());
                                let refused = naive.dead.contains_key(key) || naive.barred.contains_key(&place);
                                naive.cool.get(&place).copied().filter(|_| !refused)
                            };
                            let first = mine[nth].iter().filter_map(cool).min();
                            prop_assert_eq!(why, first.map_or(NoTurn::Refused, NoTurn::Cooling));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn in_each_round_every_key_goes_as_often_as_its_weight_says(weights in proptest::collection::vec(0u8..9, 1..12)) {
        let specs: Vec<_> = weights.iter().map(|weight| any(f64::from(*weight))).collect();
        let round: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        prop_assume!(round > 0);
        let mut ring = Ring::new(&specs);
        for _ in 0..3 {
            let mut gone = vec![0usize; weights.len()];
            for (nth, key) in turns(&mut ring, "m", round, now()).into_iter().enumerate() {
                gone[key] += 1;
                for (gone, weight) in gone.iter().zip(&weights) {
                    let fair = (nth + 1) as f64 * f64::from(*weight) / round as f64;
                    prop_assert!((*gone as f64 - fair).abs() < weights.len() as f64, "{gone} is far from {fair}");
                }
            }
            prop_assert_eq!(gone, weights.iter().map(|weight| usize::from(*weight)).collect::<Vec<_>>());
        }
    }
}
