//! The order in which an alias's targets are tried.

use super::meter::Reading;
use super::table::Target;
use crate::config::Strategy;
use crate::time::Stamp;

/// What a plan depends on beside its table, of which `P` are the providers. Each is asked only where a strategy needs it: a
/// plain name needs none.
pub trait Moment<P> {
    /// The time.
    fn now(&mut self) -> Stamp;
    /// A number drawn evenly from 0 (included) to 1 (not included).
    fn draw(&mut self) -> f64;
    /// How much a provider has to do: 1 is all of its workers, more is a queue.
    fn busy(&mut self, provider: &P) -> f64;
    /// Whether an attempt at `model` there would be let in.
    fn is_usable(&mut self, provider: &P, model: &str) -> bool;
}

/// A target with its share of what is drawn.
#[derive(Debug)]
pub(super) struct Share<P> {
    pub(super) target: Target<P>,
    pub(super) weight: f64,
}

/// The targets in the order in which they are to be tried. Those that are not usable come last: they are refused at once,
/// and may be usable again by then.
pub(super) fn arrange<'a, P>(
    shares: &'a [Share<P>],
    strategy: Strategy,
    streamed: bool,
    moment: &mut impl Moment<P>,
) -> Vec<&'a Target<P>> {
    // Most aliases are another name for one model.
    if let [only] = shares {
        return vec![&only.target];
    }
    let all: Vec<_> = match strategy {
        Strategy::Order => shares.iter().map(|share| &share.target).collect(),
        // Equals among them are drawn by weight, so that not all go to the same.
        Strategy::Weighted | Strategy::LeastBusy | Strategy::Latency => drawn(shares, moment),
    };
    let usable = |target: &&Target<P>| moment.is_usable(&target.provider, &target.model);
    let (mut targets, unusable): (Vec<_>, Vec<_>) = all.into_iter().partition(usable);
    match strategy {
        Strategy::Order | Strategy::Weighted => {}
        Strategy::LeastBusy => least_busy_first(&mut targets, moment),
        Strategy::Latency => fastest_first(&mut targets, streamed, moment.now()),
    }
    targets.extend(unusable);
    targets
}

/// Draws all of them by weight, without replacement: sorted by exponential times whose rates are the weights, which is the
/// same (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006). A weight of 0 is an endless time.
fn drawn<'a, P>(shares: &'a [Share<P>], moment: &mut impl Moment<P>) -> Vec<&'a Target<P>> {
    let mut timed: Vec<_> = shares
        .iter()
        .map(|share| {
            let time = if share.weight > 0.0 { -(1.0 - moment.draw()).ln() / share.weight } else { f64::INFINITY };
            (time, &share.target)
        })
        .collect();
    timed.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    timed.into_iter().map(|(_, target)| target).collect()
}

/// By how much their providers have to do, each of which is asked once.
fn least_busy_first<P>(targets: &mut [&Target<P>], moment: &mut impl Moment<P>) {
    let mut rated: Vec<_> = targets.iter().map(|target| (moment.busy(&target.provider), *target)).collect();
    rated.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    targets.iter_mut().zip(rated).for_each(|(place, (_, target))| *place = target);
}

/// By the last times; one whose time is wanted comes first if this request is the one to have it, else after those that
/// are known.
fn fastest_first<P>(targets: &mut [&Target<P>], streamed: bool, now: Stamp) {
    let read =
        |target: &Target<P>| target.meter.as_ref().map_or(Reading::Awaited(None), |meter| meter.read(streamed, now));
    targets.sort_by_cached_key(|target| match read(target) {
        Reading::Known(micros) | Reading::Awaited(Some(micros)) => micros,
        Reading::Wanted => u64::MAX - 1,
        Reading::Awaited(None) => u64::MAX,
    });
    let claims = |target: &&Target<P>| {
        read(target) == Reading::Wanted && target.meter.as_ref().is_some_and(|meter| meter.claim(streamed, now))
    };
    if let Some(at) = targets.iter().position(claims) {
        targets[..=at].rotate_right(1);
    }
}
