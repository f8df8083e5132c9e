//! The rules of [`super`], by example and by property.

use proptest::prelude::*;

use super::{Action, Event, Life, Limits, Moment, OnTimeout, Phase, Reason, Refusal};

const DAY: u32 = 86_400;

fn at(seconds: i64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn limits(timeout: u32, longest: u32, on_timeout: OnTimeout) -> Limits {
    Limits {
        timeout,
        longest,
        on_timeout,
    }
}

fn ending(timeout: u32, on_timeout: OnTimeout) -> Life {
    let mut life = Life::new(limits(timeout, DAY, on_timeout));
    life.step(Event::Booted(at(1_000))).unwrap();
    life
}

fn running(timeout: u32) -> Life {
    ending(timeout, OnTimeout::Kill)
}

const AUTO: OnTimeout = OnTimeout::Pause { memory: true };

fn paused(timeout: u32) -> Life {
    let mut life = running(timeout);
    life.step(Event::Pause).unwrap();
    life.step(Event::Paused(at(1_010))).unwrap();
    life
}

fn end_at(life: &Life) -> Moment {
    life.span().unwrap().end_at
}

#[test]
fn time_starts_when_the_machine_serves() {
    let mut life = Life::new(limits(15, DAY, OnTimeout::Kill));
    assert_eq!(
        life.step(Event::Booted(at(1_000))),
        Ok(vec![Action::Schedule(at(1_015))])
    );
    assert_eq!(life.phase(), Phase::Running);
    assert_eq!(life.span().unwrap().started_at, at(1_000));
}

#[test]
fn a_timer_that_fires_early_is_set_again() {
    let mut life = running(15);
    assert_eq!(
        life.step(Event::Tick(at(1_014))),
        Ok(vec![Action::Schedule(at(1_015))])
    );
    assert_eq!(
        life.step(Event::Tick(at(1_015))),
        Ok(vec![Action::Kill(Reason::Expired)])
    );
}

#[test]
fn timeout_shortens_and_zero_ends() {
    let mut life = running(300);
    life.step(Event::SetTimeout(at(1_010), 5)).unwrap();
    assert_eq!(end_at(&life), at(1_015));
    assert_eq!(
        life.step(Event::SetTimeout(at(1_011), 0)),
        Ok(vec![Action::Kill(Reason::Expired)])
    );
}

#[test]
fn connect_never_shortens() {
    let mut life = running(300);
    let before = end_at(&life);
    assert_eq!(life.step(Event::Extend(at(1_001), 5)), Ok(vec![]));
    assert_eq!(end_at(&life), before);
    life.step(Event::Extend(at(1_001), 600)).unwrap();
    assert_eq!(end_at(&life), at(1_601));
}

#[test]
fn nothing_runs_longer_than_the_longest_life() {
    let mut life = running(DAY * 3);
    assert_eq!(end_at(&life), at(1_000 + i64::from(DAY)));
    life.step(Event::SetTimeout(at(2_000), DAY)).unwrap();
    assert_eq!(end_at(&life), at(1_000 + i64::from(DAY)));
}

#[test]
fn a_kill_during_the_boot_ends_it_when_the_boot_has_ended() {
    for outcome in [Event::Booted(at(1)), Event::BootFailed] {
        let mut life = Life::new(limits(15, DAY, OnTimeout::Kill));
        assert_eq!(
            life.step(Event::Kill(Reason::Shutdown)),
            Ok(vec![Action::Abort, Action::Kill(Reason::Shutdown)])
        );
        assert_eq!(life.step(Event::KillSent), Ok(vec![]));
        let finish = Ok(vec![Action::Finish(Reason::Shutdown)]);
        assert_eq!(life.step(outcome), finish);
    }
}

#[test]
fn what_a_client_hears_while_a_sandbox_ends() {
    let mut life = running(15);
    life.step(Event::Kill(Reason::Request)).unwrap();
    let extend = Event::Extend(at(1_001), 5);
    assert_eq!(life.step(extend), Err(Refusal::BeingKilled));
    assert_eq!(life.step(Event::Pause), Err(Refusal::BeingKilled));
    assert_eq!(life.step(Event::Kill(Reason::Request)), Err(Refusal::Gone));
    life.step(Event::KillSent).unwrap();
    assert_eq!(life.step(extend), Err(Refusal::Gone));
}

#[test]
fn a_paused_sandbox_has_no_deadline_until_it_goes_on() {
    let mut life = paused(15);
    assert_eq!(end_at(&life), at(1_010));
    assert_eq!(life.step(Event::Tick(at(9_000))), Err(Refusal::Paused));
    assert_eq!(life.step(Event::Pause), Err(Refusal::Paused));
    assert_eq!(
        life.step(Event::SetTimeout(at(9_000), 5)),
        Err(Refusal::Paused)
    );
    life.step(Event::Resume(60)).unwrap();
    assert_eq!(life.shown_paused(), Some(true));
    assert_eq!(
        life.step(Event::Booted(at(9_000))),
        Ok(vec![Action::Schedule(at(9_060))])
    );
    let span = life.span().unwrap();
    assert_eq!((span.started_at, span.since), (at(1_000), at(9_000)));
    assert_eq!(life.step(Event::Resume(60)), Err(Refusal::Running));
}

#[test]
fn a_resume_that_fails_leaves_it_paused() {
    let mut life = paused(15);
    life.step(Event::Resume(60)).unwrap();
    assert_eq!(life.step(Event::BootFailed), Ok(vec![]));
    assert_eq!(life.phase(), Phase::Paused);
    assert_eq!(end_at(&life), at(1_010));
}

#[test]
fn a_deadline_that_passes_during_an_operation_is_judged_after_it() {
    let mut life = running(15);
    life.step(Event::Capture).unwrap();
    assert_eq!(
        life.step(Event::Tick(at(1_015))),
        Err(Refusal::InTransition)
    );
    let again = Ok(vec![Action::Schedule(at(1_015))]);
    assert_eq!(life.step(Event::Done(at(1_020))), again);
    assert_eq!(
        life.step(Event::Tick(at(1_020))),
        Ok(vec![Action::Kill(Reason::Expired)])
    );
}

#[test]
fn the_end_of_the_time_pauses_where_that_was_asked_for() {
    let begun = Ok(vec![Action::Cut, Action::Pause { memory: true }]);
    let mut life = ending(15, AUTO);
    assert_eq!(life.step(Event::Tick(at(1_015))), begun);
    assert_eq!(life.phase(), Phase::Pausing);
    assert_eq!(
        ending(15, AUTO).step(Event::SetTimeout(at(1_001), 0)),
        begun
    );
}

#[test]
fn a_pause_that_fails_is_tried_again_and_not_for_ever() {
    let mut life = ending(15, AUTO);
    let mut now = at(1_015);
    for _ in 0..3 {
        life.step(Event::Tick(now)).unwrap();
        let later = now.plus_seconds(30);
        assert_eq!(life.step(Event::Done(now)), Ok(vec![Action::Wake(later)]));
        now = later;
    }
    life.step(Event::Tick(now)).unwrap();
    let killed = Ok(vec![Action::Kill(Reason::Expired)]);
    assert_eq!(life.step(Event::Done(now)), killed);
}

#[test]
fn another_operation_does_not_bring_the_next_attempt_nearer() {
    let mut life = ending(15, AUTO);
    life.step(Event::Tick(at(1_015))).unwrap();
    let again = Ok(vec![Action::Wake(at(1_045))]);
    assert_eq!(life.step(Event::Done(at(1_015))), again);
    life.step(Event::Capture).unwrap();
    assert_eq!(life.step(Event::Done(at(1_020))), again);
    life.step(Event::Extend(at(1_021), 60)).unwrap();
    life.step(Event::Capture).unwrap();
    let end = Ok(vec![Action::Schedule(at(1_081))]);
    assert_eq!(life.step(Event::Done(at(1_022))), end);
}

#[test]
fn an_end_that_is_asked_for_during_an_operation_waits_for_it() {
    let mut life = running(15);
    life.step(Event::Capture).unwrap();
    let now = Event::SetTimeout(at(1_001), 0);
    assert_eq!(life.step(now), Err(Refusal::InTransition));
    life.step(Event::SetTimeout(at(1_001), 60)).unwrap();
    assert_eq!(end_at(&life), at(1_061));
}

#[test]
fn a_machine_of_an_earlier_run_can_die_without_harm() {
    let mut life = paused(15);
    life.step(Event::Resume(60)).unwrap();
    life.step(Event::Booted(at(2_000))).unwrap();
    assert_eq!(life.step(Event::MachineDied(1)), Err(Refusal::OutOfPlace));
    assert_eq!(life.phase(), Phase::Running);
    assert_eq!(
        life.step(Event::MachineDied(2)),
        Ok(vec![Action::Finish(Reason::Died)])
    );
}

#[test]
fn a_machine_that_dies_while_it_is_captured_ends_its_sandbox_when_the_capture_has_ended() {
    for outcome in [Event::Done(at(1_002)), Event::Lost] {
        let mut life = running(15);
        life.step(Event::Capture).unwrap();
        assert_eq!(life.step(Event::MachineDied(1)), Ok(vec![Action::Cut]));
        assert!(!life.serves());
        assert_eq!(life.shown_paused(), None);
        assert_eq!(life.step(outcome), Ok(vec![Action::Finish(Reason::Died)]));
    }
}

#[test]
fn a_shutdown_ends_what_runs_and_keeps_what_is_paused() {
    assert_eq!(
        running(15).step(Event::Stop),
        Ok(vec![Action::Kill(Reason::Shutdown)])
    );
    let mut life = paused(15);
    assert_eq!(life.step(Event::Stop), Err(Refusal::Paused));
    life.step(Event::Resume(5)).unwrap();
    assert_eq!(life.step(Event::Stop), Ok(vec![Action::Abort]));
    life.step(Event::BootFailed).unwrap();
    assert_eq!(life.phase(), Phase::Paused);
    let mut pausing = running(15);
    pausing.step(Event::Pause).unwrap();
    assert_eq!(pausing.step(Event::Stop), Err(Refusal::InTransition));
}

/// What clients and the clock do.
fn request() -> impl Strategy<Value = Event> {
    let moment = (0i64..200_000).prop_map(at);
    let seconds = prop_oneof![Just(0u32), 1u32..400, Just(u32::MAX)];
    prop_oneof![
        prop_oneof![
            Just(Reason::Request),
            Just(Reason::Shutdown),
            Just(Reason::Abandoned)
        ]
        .prop_map(Event::Kill),
        Just(Event::Stop),
        moment.clone().prop_map(Event::Tick),
        (moment.clone(), seconds.clone()).prop_map(|(m, s)| Event::SetTimeout(m, s)),
        (moment, seconds.clone()).prop_map(|(m, s)| Event::Extend(m, s)),
        Just(Event::Capture),
        Just(Event::RollBack),
        Just(Event::Pause),
        Just(Event::Pause),
        seconds.prop_map(Event::Resume),
        (0u32..4).prop_map(Event::MachineDied),
    ]
}

/// What may happen next: a request, or the report of something that was begun.
#[derive(Clone, Debug)]
enum Next {
    Request(Event),
    /// The outcome of the operation that is under way, of which there are several.
    Outcome(u8),
    /// The report of an action.
    Report,
}

fn next() -> impl Strategy<Value = Next> {
    prop_oneof![
        4 => request().prop_map(Next::Request),
        4 => (0u8..4).prop_map(Next::Outcome),
        2 => Just(Next::Report),
    ]
}

/// The edge: which operation is under way, and which reports are owed.
#[derive(Debug, Default)]
struct Edge {
    operation: Option<Phase>,
    owed: Vec<Event>,
}

impl Edge {
    /// What an operation may report, whatever happened to the sandbox meanwhile.
    fn outcome(&mut self, which: u8, now: Moment) -> Option<Event> {
        let outcomes = match self.operation.take()? {
            Phase::Creating | Phase::Resuming(_) => vec![Event::Booted(now), Event::BootFailed],
            Phase::Pausing => vec![Event::Paused(now), Event::Done(now), Event::Lost],
            _ => vec![Event::Done(now), Event::Lost],
        };
        outcomes.get(usize::from(which) % outcomes.len()).copied()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Kill(_) => self.owed.push(Event::KillSent),
            Action::Finish(_) => self.owed.push(Event::Released),
            _ => {}
        }
    }
}

fn is_ending(phase: Phase) -> u8 {
    match phase {
        Phase::Killing { .. } => 1,
        Phase::Ending(_) => 2,
        Phase::Gone => 3,
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_life_goes_backwards_wedges_or_finishes_twice(
        script in proptest::collection::vec(next(), 0..60),
        timeout in 1u32..1_000,
        pauses in any::<bool>(),
    ) {
        let on_timeout = if pauses { AUTO } else { OnTimeout::Kill };
        let mut life = Life::new(limits(timeout, 500, on_timeout));
        let mut edge = Edge { operation: Some(Phase::Creating), ..Edge::default() };
        let (mut finishes, mut forgets) = (0, 0);
        let mut now = 0;
        // At the end everything that is owed is reported, and a kill drives the rest home.
        let home = [Next::Outcome(0), Next::Request(Event::Kill(Reason::Request)), Next::Outcome(1)];
        let last = home.into_iter().chain(std::iter::repeat_n(Next::Report, 40));
        for next in script.into_iter().chain(last) {
            now += 1;
            let event = match next {
                Next::Request(event) => Some(event),
                Next::Outcome(which) => edge.outcome(which, at(now)),
                Next::Report => edge.owed.pop(),
            };
            let Some(event) = event else { continue };
            let before = life.clone();
            let result = life.step(event);
            prop_assert!(is_ending(life.phase()) >= is_ending(before.phase()));
            if result.is_err() {
                prop_assert_eq!(&life, &before);
            }
            // The outcome of an operation is never out of place.
            let outcome = matches!(event, Event::Booted(_) | Event::BootFailed | Event::Done(_) | Event::Lost | Event::Paused(_));
            prop_assert!(!outcome || result.is_ok(), "{:?} in {:?}", event, before.phase());
            if life.in_transition() && !before.in_transition() {
                prop_assert!(edge.operation.is_none(), "two operations at once");
                edge.operation = Some(life.phase());
            }
            for action in result.unwrap_or_default() {
                prop_assert_eq!(forgets, 0);
                match action {
                    Action::Finish(_) => {
                        prop_assert!(edge.operation.is_none(), "released under an operation");
                        finishes += 1;
                    }
                    Action::Forget => forgets += 1,
                    Action::Schedule(moment) => prop_assert_eq!(Some(moment), life.span().map(|s| s.end_at)),
                    _ => {}
                }
                edge.act(action);
            }
            if let (Some(span), Phase::Running) = (life.span(), life.phase()) {
                prop_assert!(span.end_at <= span.since.plus_seconds(500));
            }
        }
        prop_assert_eq!(life.phase(), Phase::Gone);
        prop_assert_eq!(finishes, 1);
        prop_assert_eq!(forgets, 1);
    }

    #[test]
    fn extend_only_ever_moves_the_deadline_away(
        steps in proptest::collection::vec((0i64..2_000, 0u32..5_000), 1..30),
    ) {
        let mut life = Life::new(limits(100, 3_000, OnTimeout::Kill));
        life.step(Event::Booted(at(0))).unwrap();
        for (now, seconds) in steps {
            let before = end_at(&life);
            let actions = life.step(Event::Extend(at(now), seconds)).unwrap();
            prop_assert!(end_at(&life) >= before);
            prop_assert_eq!(actions.is_empty(), end_at(&life) == before);
        }
    }
}
