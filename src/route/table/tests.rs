//! The table against its rules: names, chains, draws, keys, and any plan at all.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use serde_json::json;

use super::*;
use crate::config::{Config, Strategy};
use crate::time::{Stamp, now};

/// The providers of these tests; each stands for itself.
const PROVIDERS: [&str; 3] = ["openai", "other", "sim"];

type Names = Vec<String>;

fn reference(text: &str) -> ModelRef {
    let (provider, model) = text.split_once('/').expect("provider/model");
    ModelRef { provider: provider.to_owned(), model: model.to_owned() }
}

fn alias(name: &str, targets: &[(&str, f64)], strategy: Strategy, fallbacks: &[&str]) -> config::Alias {
    let target = |(model, weight): &(&str, f64)| AliasTarget { model: reference(model), weight: *weight };
    config::Alias {
        name: name.to_owned(),
        targets: targets.iter().map(target).collect(),
        strategy,
        fallbacks: fallbacks.iter().map(|text| reference(text)).collect(),
    }
}

fn table(aliases: &[config::Alias]) -> Table<&'static str> {
    Table::new(PROVIDERS.map(|name| (Arc::from(name), name)).to_vec(), aliases)
}

/// What a key may use whose `models` are these.
fn scope(entries: &[&str]) -> Scope {
    let document = json!({"server": {"keys": [{"value": "k", "models": entries}]}, "providers": {"sim": {}}});
    let config = Config::from_json(&document.to_string(), &|_: &str| None).unwrap_or_else(|error| panic!("{error}"));
    config.server.keys[0].scope.clone()
}

/// The aliases of most tests.
fn usual() -> Table<&'static str> {
    table(&[
        alias("fast", &[("openai/mini", 1.0)], Strategy::Weighted, &[]),
        alias("chain", &[("openai/a", 1.0), ("other/b", 1.0)], Strategy::Order, &["sim/echo", "openai/a", "sim/x"]),
        alias("openai/gpt-4o", &[("other/gpt-4o", 1.0)], Strategy::Weighted, &[]),
    ])
}

/// A moment as the test says it is. By default chance gives what the seed does, nobody is busy and everybody usable.
struct Then {
    now: Stamp,
    chance: fastrand::Rng,
    busy: HashMap<&'static str, f64>,
    unusable: HashSet<String>,
    asked: u32,
}

impl Then {
    fn seeded(seed: u64) -> Self {
        let (busy, unusable) = (HashMap::new(), HashSet::new());
        Self { now: Stamp::at(now()), chance: fastrand::Rng::with_seed(seed), busy, unusable, asked: 0 }
    }
}

impl Moment<&'static str> for Then {
    fn now(&mut self) -> Stamp {
        self.asked += 1;
        self.now
    }

    fn draw(&mut self) -> f64 {
        self.asked += 1;
        self.chance.f64()
    }

    fn busy(&mut self, provider: &&'static str) -> f64 {
        self.asked += 1;
        self.busy.get(provider).copied().unwrap_or_default()
    }

    fn is_usable(&mut self, provider: &&'static str, model: &str) -> bool {
        self.asked += 1;
        !self.unusable.contains(&format!("{provider}/{model}"))
    }
}

/// A request for `model` by somebody who may use everything.
fn asked<'a>(model: &'a str, fallbacks: &'a [String], scope: &'a Scope) -> Asked<'a> {
    Asked { model, prefix: None, fallbacks, models: false, streamed: false, scope }
}

fn names(plan: &Plan<&'static str>) -> Names {
    plan.targets().map(|target| format!("{}/{}", target.provider, target.model)).collect()
}

fn owned(texts: &[&str]) -> Names {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn plan(table: &Table<&'static str>, model: &str, fallbacks: &[&str], moment: &mut Then) -> Names {
    let fallbacks = owned(fallbacks);
    names(&table.plan(&asked(model, &fallbacks, &Scope::default()), moment).unwrap_or_else(|e| panic!("{model}: {e}")))
}

fn refused(table: &Table<&'static str>, asked: &Asked<'_>) -> (Code, String, Option<String>) {
    let error = table.plan(asked, &mut Then::seeded(1)).expect_err("it leads nowhere");
    (error.code(), error.message().to_owned(), error.param().map(str::to_owned))
}

#[test]
fn a_name_is_an_alias_or_a_model_of_the_provider_before_its_first_slash() {
    let table = usual();
    for (name, target) in [
        ("fast", "openai/mini"),
        ("openai/ft:gpt/x", "openai/ft:gpt/x"),
        ("sim/echo", "sim/echo"),
        ("openai/gpt-4o", "other/gpt-4o"),
        ("sim/fast", "sim/fast"),
    ] {
        let mut moment = Then::seeded(1);
        assert_eq!(plan(&table, name, &[], &mut moment), [target], "{name}");
        assert_eq!(moment.asked, 0, "nothing is drawn or looked at where there is nothing to choose: {name}");
    }
}

#[test]
fn under_a_prefix_a_bare_name_means_its_provider_and_any_other_what_it_says() {
    let (table, any) = (usual(), Scope::default());
    let fallbacks = owned(&["bare", "fast", "sim/echo"]);
    let under = |model, prefix| Asked { prefix: Some(prefix), ..asked(model, &fallbacks, &any) };
    for (name, first) in [
        ("gpt-4o", "openai/gpt-4o"),
        ("meta-llama/x", "openai/meta-llama/x"),
        ("other/x", "other/x"),
        ("fast", "openai/mini"),
        ("openai/gpt-4o", "other/gpt-4o"),
        ("", "openai/"),
    ] {
        let plan = table.plan(&under(name, "openai"), &mut Then::seeded(1)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let rest = ["openai/bare", "openai/mini", "sim/echo"].into_iter().filter(|rest| *rest != first);
        assert_eq!(names(&plan), [first].into_iter().chain(rest).collect::<Vec<_>>(), "{name}");
    }
    let (code, text, _) = refused(&table, &under("claude", "anthropic"));
    assert!(code == Code::ModelNotFound && text.contains("anthropic"), "{text}");
}

#[test]
fn a_name_that_leads_nowhere_lists_near_ones() {
    let (table, any) = (usual(), Scope::default());
    for (name, near) in [
        ("openia/gpt-4", "near: openai/gpt-4"),
        ("gpt-4", "near: openai/gpt-4, other/gpt-4, sim/gpt-4"),
        ("fats", "near: fast, openai/fats, other/fats"),
        ("chian", "near: chain"),
        ("sim/", "write sim/<model>"),
        ("meta-llama/x", "one of: openai, other, sim"),
        ("", "one of: openai, other, sim"),
    ] {
        let (code, text, param) = refused(&table, &asked(name, &[], &any));
        assert_eq!((code, param.as_deref()), (Code::ModelNotFound, Some("model")), "{name}");
        assert!(text.contains(near), "{near} is missing: {text}");
        let fallbacks = owned(&["sim/echo", name]);
        let (code, text, param) = refused(&table, &asked("fast", &fallbacks, &any));
        assert_eq!((code, param.as_deref()), (Code::InvalidRequest, Some("fallbacks")), "{name}");
        assert!(text.contains("'fallbacks[1]'") && text.contains(near), "{near} is missing: {text}");
    }
    let long = "x".repeat(1 << 20);
    assert!(refused(&table, &asked(&long, &[], &any)).1.len() < 1000);
}

#[test]
fn fallbacks_come_after_the_targets_and_the_requests_own_instead_of_the_aliass() {
    let table = usual();
    for (model, fallbacks, wanted) in [
        ("chain", &[][..], &["openai/a", "other/b", "sim/echo", "sim/x"][..]),
        ("chain", &["sim/last"], &["openai/a", "other/b", "sim/last"]),
        ("sim/echo", &["fast", "sim/echo", "openai/mini", "sim/x"], &["sim/echo", "openai/mini", "sim/x"]),
        // An alias among them stands for its targets alone.
        ("fast", &["chain"], &["openai/mini", "openai/a", "other/b"]),
        ("sim/echo", &["chain", "chain", "sim/x"], &["sim/echo", "openai/a", "other/b", "sim/x"]),
    ] {
        assert_eq!(plan(&table, model, fallbacks, &mut Then::seeded(1)), wanted, "{model} {fallbacks:?}");
    }
}

#[test]
fn a_plan_is_bounded() {
    let targets: Vec<_> = (0..64).map(|n| format!("sim/{n}")).collect();
    let targets: Vec<_> = targets.iter().map(|text| (text.as_str(), 1.0)).collect();
    let more: Vec<_> = (0..64).map(|n| format!("openai/{n}")).collect();
    let more: Vec<_> = more.iter().map(|text| (text.as_str(), 1.0)).collect();
    let table = table(&[alias("a", &targets, Strategy::Order, &[]), alias("b", &more, Strategy::Order, &[])]);
    assert_eq!(plan(&table, "a", &["b", "a", "b"], &mut Then::seeded(1)).len(), 128);
    let (code, text, param) = refused(&table, &asked("a", &owned(&["b", "sim/one-more"]), &Scope::default()));
    assert_eq!((code, param.as_deref()), (Code::InvalidRequest, Some("fallbacks")), "{text}");
}

/// Each order of three comes as often as drawing one after the other without putting back says.
#[test]
fn targets_are_drawn_by_weight_without_replacement() {
    let weights = [("openai/a", 3.0), ("other/b", 2.0), ("sim/c", 1.0)];
    let table = table(&[alias("w", &weights, Strategy::Weighted, &[])]);
    let (mut moment, mut counts, rounds) = (Then::seeded(7), HashMap::<Names, u32>::new(), 60_000);
    for _ in 0..rounds {
        *counts.entry(plan(&table, "w", &[], &mut moment)).or_default() += 1;
    }
    assert_eq!(counts.len(), 6);
    for (order, count) in counts {
        let weight = |at: usize| weights.iter().find(|(name, _)| *name == order[at]).expect("one of them").1;
        let expected = weight(0) / 6.0 * weight(1) / (6.0 - weight(0));
        let share = f64::from(count) / f64::from(rounds);
        // Five standard deviations.
        let slack = 5.0 * (expected * (1.0 - expected) / f64::from(rounds)).sqrt();
        assert!((share - expected).abs() < slack, "{order:?}: {share} instead of {expected}");
    }
}

#[test]
fn a_weight_of_nothing_comes_last_and_nothing_but_such_weights_in_their_order() {
    let mixed = [("openai/never", 0.0), ("other/rare", 1e-9), ("sim/often", 1e6), ("sim/never", 0.0)];
    let none = [("sim/1", 0.0), ("openai/2", 0.0), ("other/3", 0.0)];
    let table =
        table(&[alias("mixed", &mixed, Strategy::Weighted, &[]), alias("none", &none, Strategy::Weighted, &[])]);
    let mut moment = Then::seeded(3);
    for _ in 0..1000 {
        let drawn = plan(&table, "mixed", &[], &mut moment);
        assert_eq!(drawn[2..], ["openai/never", "sim/never"]);
        assert_eq!(plan(&table, "none", &[], &mut moment), ["sim/1", "openai/2", "other/3"]);
    }
}

#[test]
fn the_least_busy_comes_first_and_equals_share() {
    let targets = [("openai/a", 1.0), ("other/b", 1.0), ("sim/c", 1.0)];
    let table = table(&[alias("l", &targets, Strategy::LeastBusy, &["openai/last"])]);
    let mut moment = Then::seeded(5);
    moment.busy = HashMap::from([("openai", 1.5), ("other", 0.25), ("sim", 0.5)]);
    assert_eq!(plan(&table, "l", &[], &mut moment), ["other/b", "sim/c", "openai/a", "openai/last"]);
    moment.busy = HashMap::from([("openai", 0.75)]);
    let firsts: Vec<_> = (0..1000).map(|_| plan(&table, "l", &[], &mut moment).swap_remove(0)).collect();
    let of = |name: &str| firsts.iter().filter(|first| *first == name).count();
    assert!(of("openai/a") == 0 && of("other/b") > 400 && of("sim/c") > 400, "{} {}", of("other/b"), of("sim/c"));
}

#[test]
fn the_fastest_comes_first_once_each_has_been_tried() {
    let targets = [("openai/a", 1.0), ("other/b", 1.0), ("sim/c", 1.0)];
    let table = table(&[alias("l", &targets, Strategy::Latency, &[])]);
    let (mut moment, ms) = (Then::seeded(5), Duration::from_millis);
    let any = Scope::default();
    let took = HashMap::from([("openai", ms(300)), ("other", ms(20)), ("sim", ms(100))]);
    let mut firsts = Vec::new();
    for _ in 0..3 {
        let plan = table.plan(&asked("l", &[], &any), &mut moment).expect("a plan");
        let first = plan.targets().next().expect("a target");
        first.meter.as_ref().expect("a meter").note(false, took[first.provider], moment.now);
        firsts.push(first.provider);
    }
    firsts.sort_unstable();
    assert_eq!(firsts, PROVIDERS, "each of them is tried by one of the first three");
    for _ in 0..100 {
        assert_eq!(plan(&table, "l", &[], &mut moment), ["other/b", "sim/c", "openai/a"]);
    }
    // Streams have times of their own.
    let streamed = Asked { streamed: true, ..asked("l", &[], &any) };
    let plans: Vec<_> = (0..4).map(|_| names(&table.plan(&streamed, &mut moment).expect("a plan"))).collect();
    let tried: HashSet<_> = plans[..3].iter().map(|plan| &plan[0]).collect();
    assert_eq!(tried.len(), 3, "three requests at once look at three of them: {plans:?}");
    // One that failed goes last, until somebody looks again.
    let plan_of = |moment: &mut Then| table.plan(&asked("l", &[], &any), moment).expect("a plan");
    let best = plan_of(&mut moment);
    best.targets().next().and_then(|target| target.meter.as_ref()).expect("a meter").failed(false, moment.now);
    assert_eq!(plan(&table, "l", &[], &mut moment), ["sim/c", "openai/a", "other/b"]);
    moment.now = Stamp::at(now() + Duration::from_secs(10));
    assert_eq!(plan(&table, "l", &[], &mut moment), ["other/b", "sim/c", "openai/a"], "one looks");
    assert_eq!(plan(&table, "l", &[], &mut moment), ["sim/c", "openai/a", "other/b"], "and only one");
}

#[test]
fn what_is_not_usable_goes_last_under_every_strategy_and_stays() {
    let targets = [("openai/a", 1e6), ("other/b", 1.0), ("sim/c", 1.0)];
    for strategy in [Strategy::Weighted, Strategy::LeastBusy, Strategy::Latency, Strategy::Order] {
        let table = table(&[alias("x", &targets, strategy, &["openai/a2", "sim/c2"])]);
        let mut moment = Then::seeded(9);
        moment.unusable.insert("openai/a".to_owned());
        for _ in 0..50 {
            let planned = plan(&table, "x", &[], &mut moment);
            assert_eq!((planned.len(), planned[2].as_str()), (5, "openai/a"), "{strategy:?}: {planned:?}");
            assert_eq!(planned[3..], ["openai/a2", "sim/c2"]);
        }
        if strategy == Strategy::Latency {
            moment.unusable.clear();
            let first = plan(&table, "x", &[], &mut moment).swap_remove(0);
            assert_eq!(first, "openai/a", "what was not usable was not the one to be timed");
            moment.unusable.insert("openai/a".to_owned());
        }
        moment.unusable.extend(["other/b", "sim/c"].map(str::to_owned));
        assert_eq!(plan(&table, "x", &[], &mut moment).len(), 5, "and if none is, all are there");
    }
}

#[test]
fn a_restricted_key_uses_an_alias_that_it_names_or_all_of_whose_targets_it_may_use() {
    let table = usual();
    for (entries, model, fallbacks, wanted) in [
        (&["fast"][..], "fast", &[][..], Some(&["openai/mini"][..])),
        (&["openai/mini"], "fast", &[], Some(&["openai/mini"])),
        (&["openai/*"], "fast", &[], Some(&["openai/mini"])),
        (&["openai/other"], "fast", &[], None),
        (&["fast"], "openai/mini", &[], None),
        // By its name it has the alias's fallbacks, too; by its targets what it may use of them.
        (&["chain"], "chain", &[], Some(&["openai/a", "other/b", "sim/echo", "sim/x"])),
        (&["openai/a", "other/b", "sim/x"], "chain", &[], Some(&["openai/a", "other/b", "sim/x"])),
        (&["openai/a", "sim/*"], "chain", &[], None),
        // Of its own fallbacks it may use each.
        (&["fast", "sim/*"], "fast", &["sim/echo"], Some(&["openai/mini", "sim/echo"])),
        (&["fast", "sim/*"], "fast", &["sim/echo", "other/b"], None),
        (&["fast", "sim/*"], "sim/echo", &["chain"], None),
        (&["fast", "sim/*"], "sim/echo", &["fast"], Some(&["sim/echo", "openai/mini"])),
        (&["fast", "sim/*"], "sim/echo", &["nowhere/x"], None),
        // A model's line is that of the alias which bears its name; a provider's is not.
        (&["openai/gpt-4o"], "openai/gpt-4o", &[], Some(&["other/gpt-4o"])),
        (&["openai/*"], "openai/gpt-4o", &[], None),
        (&["other/*"], "openai/gpt-4o", &[], Some(&["other/gpt-4o"])),
        (&["*"], "nowhere", &[], None),
    ] {
        let (scope, fallbacks) = (scope(entries), owned(fallbacks));
        let asked = asked(model, &fallbacks, &scope);
        match (table.plan(&asked, &mut Then::seeded(1)), wanted) {
            (Ok(plan), Some(wanted)) => assert_eq!(names(&plan), wanted, "{entries:?} {model}"),
            (Ok(plan), None) => panic!("{entries:?} {model} {fallbacks:?}: {:?}", names(&plan)),
            (Err(error), None) if scope.is_any() => assert_eq!(error.code(), Code::ModelNotFound),
            (Err(error), None) => {
                let param = if error.message().starts_with("'fallbacks") { "fallbacks" } else { "model" };
                assert_eq!((error.code(), error.param()), (Code::Forbidden, Some(param)), "{error}");
                assert!(!error.message().contains("openai, other"), "nothing is told beyond: {error}");
            }
            (Err(error), Some(_)) => panic!("{entries:?} {model} {fallbacks:?}: {error}"),
        }
    }
    let listed = |entries: &[&str]| table.aliases(&scope(entries)).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(listed(&["*"]), ["fast", "chain", "openai/gpt-4o"]);
    assert_eq!(listed(&["openai/*", "other/b"]), ["fast", "chain"]);
    assert_eq!(listed(&["sim/*"]), Names::new());
}

/// What names further models of one provider could lead past what was judged at any of them.
#[test]
fn further_models_need_every_provider_of_the_plan_whole() {
    let table = usual();
    let fallbacks = owned(&["sim/echo"]);
    for (entries, model, allowed) in [
        (&["fast", "sim/*"][..], "fast", false),
        (&["openai/*", "sim/echo"], "openai/a", false),
        (&["openai/*", "sim/*"], "openai/a", true),
        (&["*"], "fast", true),
    ] {
        let scope = scope(entries);
        let result = table.plan(&Asked { models: true, ..asked(model, &fallbacks, &scope) }, &mut Then::seeded(1));
        assert_eq!(result.is_ok(), allowed, "{entries:?}");
        assert!(result.err().is_none_or(|e| e.code() == Code::Forbidden && e.param() == Some("models")));
    }
}

/// Some model, some alias, or a name that leads nowhere.
fn any_name() -> impl proptest::strategy::Strategy<Value = String> {
    prop_oneof![
        (0..3usize, 0..3usize).prop_map(|(provider, model)| format!("{}/{model}", PROVIDERS[provider])),
        (0..3usize).prop_map(|n| format!("alias-{n}")),
    ]
}

fn any_alias(n: usize) -> impl proptest::strategy::Strategy<Value = config::Alias> {
    let model = || (0..3usize, 0..3usize).prop_map(|(at, model)| format!("{}/{model}", PROVIDERS[at]));
    let weight = prop_oneof![Just(0.0), 0.0..10.0f64];
    let targets = prop::collection::vec((model(), weight), 1..6);
    let fallbacks = prop::collection::vec(model(), 0..4);
    (targets, 0..4usize, fallbacks).prop_map(move |(targets, strategy, fallbacks)| {
        let strategies = [Strategy::Weighted, Strategy::LeastBusy, Strategy::Latency, Strategy::Order];
        let mut targets: Vec<_> = targets.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
        targets.sort_by_key(|(name, _)| *name);
        targets.dedup_by_key(|(name, _)| *name);
        let fallbacks: Vec<_> = fallbacks.iter().map(String::as_str).collect();
        alias(&format!("alias-{n}"), &targets, strategies[strategy], &fallbacks)
    })
}

proptest! {
    /// Whatever is asked for, a plan has exactly what its names stand for, in the order of the names, and nothing twice.
    #[test]
    fn a_plan_has_what_its_names_stand_for_once_each(
        aliases in (any_alias(0), any_alias(1), any_alias(2)),
        model in any_name(),
        fallbacks in prop::collection::vec(any_name(), 0..6),
        unusable in prop::collection::hash_set((0..3usize, 0..3usize), 0..6),
        seed in any::<u64>(),
    ) {
        let aliases = [aliases.0, aliases.1, aliases.2];
        let table = table(&aliases);
        let mut moment = Then::seeded(seed);
        moment.unusable = unusable.into_iter().map(|(at, model)| format!("{}/{model}", PROVIDERS[at])).collect();
        moment.busy = PROVIDERS.into_iter().map(|name| (name, moment.chance.f64())).collect();
        let plan = table.plan(&asked(&model, &fallbacks, &Scope::default()), &mut moment).expect("every name leads somewhere");
        let planned = names(&plan);
        let mut groups: Vec<HashSet<String>> = Vec::new();
        for (index, name) in std::iter::once(&model).chain(&fallbacks).enumerate() {
            match aliases.iter().find(|alias| alias.name == *name) {
                None => groups.push(HashSet::from([name.clone()])),
                Some(alias) => {
                    groups.push(alias.targets.iter().map(|target| target.model.to_string()).collect());
                    if index == 0 && fallbacks.is_empty() {
                        groups.extend(alias.fallbacks.iter().map(|model| HashSet::from([model.to_string()])));
                    }
                }
            }
        }
        let mut rest = planned.as_slice();
        let mut seen = HashSet::new();
        for group in groups {
            let fresh: HashSet<_> = group.difference(&seen).cloned().collect();
            let (here, after) = rest.split_at(fresh.len());
            prop_assert_eq!(&here.iter().cloned().collect::<HashSet<_>>(), &fresh);
            let is_usable = |name: &&String| !moment.unusable.contains(*name);
            prop_assert!(here.iter().skip_while(is_usable).all(|name| !is_usable(&name)), "usable ones first: {:?}", here);
            seen.extend(fresh);
            rest = after;
        }
        prop_assert!(rest.is_empty());
    }
}
