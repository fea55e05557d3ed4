//! P2, P3, P15: each attack of `make attacks` at a small size, against a process of its own.

use std::path::Path;
use std::time::Duration;

use crate::house::SLACK;

#[path = "../../benches/attacks/mod.rs"]
mod attacks;

const SMALL: attacks::Size = attacks::Size {
    idle: 300,
    slow: 60,
    pipelined: 3_000,
    limit: Duration::from_millis(300),
    thread_idle: Duration::from_millis(300),
    slack: SLACK,
};

#[test]
fn after_each_attack_it_serves_at_once_and_holds_what_it_held_before() {
    let names: Vec<_> = attacks::ATTACKS.iter().map(|attack| attack.name).collect();
    // A few at a time: the processors are not theirs alone.
    let (send, next) = crossbeam_channel::bounded(names.len());
    attacks::ATTACKS.iter().for_each(|attack| send.send(attack).expect("room for all"));
    drop(send);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..4)
            .map(|_| {
                let next = next.clone();
                scope.spawn(move || {
                    let played = next.iter().map(|attack| (attack.name, play(attack)));
                    played.filter_map(|(name, result)| Some((name, result.err()?))).collect::<Vec<_>>()
                })
            })
            .collect();
        let wrong: Vec<_> = running.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

fn play(attack: &attacks::Attack) -> Result<(), String> {
    let outcome = attacks::run(attack, Path::new(env!("CARGO_BIN_EXE_sluicegate")), &SMALL);
    let outcome = outcome.map_err(|error| error.to_string())?;
    let row = outcome.row(attack.name);
    if outcome.broken.is_empty() { Ok(()) } else { Err(format!("{:?} of {row}", outcome.broken)) }
}
