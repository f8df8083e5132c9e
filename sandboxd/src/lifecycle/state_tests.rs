//! The rules of [`super`], by example and by property.

use proptest::prelude::*;

use super::{Action, Event, Life, Moment, Phase, Reason, Refusal};

const DAY: u32 = 86_400;

fn at(seconds: i64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn running(timeout: u32) -> Life {
    let mut life = Life::new(timeout, DAY);
    life.step(Event::Booted(at(1_000))).unwrap();
    life
}

fn end_at(life: &Life) -> Moment {
    life.span().unwrap().end_at
}

#[test]
fn time_starts_when_the_machine_serves() {
    let mut life = Life::new(15, DAY);
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
fn nothing_lives_longer_than_the_longest_life() {
    let mut life = running(DAY * 3);
    assert_eq!(end_at(&life), at(1_000 + i64::from(DAY)));
    life.step(Event::SetTimeout(at(2_000), DAY)).unwrap();
    assert_eq!(end_at(&life), at(1_000 + i64::from(DAY)));
}

#[test]
fn a_kill_during_the_boot_is_remembered() {
    let mut life = Life::new(15, DAY);
    assert_eq!(
        life.step(Event::Kill(Reason::Shutdown)),
        Ok(vec![Action::AbortBoot])
    );
    assert_eq!(
        life.step(Event::Booted(at(1))),
        Ok(vec![Action::Kill(Reason::Shutdown)])
    );
}

#[test]
fn what_a_client_hears_while_a_sandbox_ends() {
    let mut life = running(15);
    life.step(Event::Kill(Reason::Request)).unwrap();
    assert_eq!(
        life.step(Event::Extend(at(1_001), 5)),
        Err(Refusal::BeingKilled)
    );
    assert_eq!(life.step(Event::Kill(Reason::Request)), Err(Refusal::Gone));
    life.step(Event::KillSent).unwrap();
    assert_eq!(life.step(Event::Extend(at(1_001), 5)), Err(Refusal::Gone));
}

fn event() -> impl Strategy<Value = Event> {
    let moment = (0i64..200_000).prop_map(at);
    let seconds = prop_oneof![Just(0u32), 1u32..400, Just(u32::MAX)];
    prop_oneof![
        moment.clone().prop_map(Event::Booted),
        Just(Event::BootFailed),
        prop_oneof![
            Just(Reason::Request),
            Just(Reason::Shutdown),
            Just(Reason::Abandoned)
        ]
        .prop_map(Event::Kill),
        moment.clone().prop_map(Event::Tick),
        (moment.clone(), seconds.clone()).prop_map(|(m, s)| Event::SetTimeout(m, s)),
        (moment, seconds).prop_map(|(m, s)| Event::Extend(m, s)),
        Just(Event::MachineDied),
        Just(Event::KillSent),
        Just(Event::Released),
    ]
}

/// What the edge reports after an action, so that a random life can be driven to its end.
fn answer(action: Action) -> Option<Event> {
    match action {
        Action::Kill(_) => Some(Event::KillSent),
        Action::Finish(_) => Some(Event::Released),
        Action::AbortBoot => Some(Event::BootFailed),
        Action::Schedule(_) | Action::Forget => None,
    }
}

fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::Creating { .. } => 0,
        Phase::Running => 1,
        Phase::Killing(_) => 2,
        Phase::Ending(_) => 3,
        Phase::Gone => 4,
    }
}

proptest! {
    #[test]
    fn no_life_goes_backwards_wedges_or_finishes_twice(
        events in proptest::collection::vec(event(), 0..40),
        timeout in 1u32..1_000,
    ) {
        let mut life = Life::new(timeout, 500);
        let mut pending: Vec<Event> = Vec::new();
        let (mut finishes, mut kills, mut forgets) = (0, 0, 0);
        let mut script = events.into_iter();
        // The edge's own reports come whenever the script lets them; at the end a kill drives the rest home.
        while let Some(event) = script.next().or_else(|| pending.pop()).or_else(|| {
            (life.phase() != Phase::Gone && kills == 0 && finishes == 0)
                .then_some(Event::Kill(Reason::Shutdown))
        }) {
            let before = life.clone();
            let result = life.step(event);
            prop_assert!(rank(life.phase()) >= rank(before.phase()));
            if result.is_err() {
                prop_assert_eq!(&life, &before);
            }
            for action in result.unwrap_or_default() {
                prop_assert_eq!(forgets, 0);
                match action {
                    Action::Finish(_) => finishes += 1,
                    Action::Kill(_) => kills += 1,
                    Action::Forget => forgets += 1,
                    Action::Schedule(moment) => prop_assert_eq!(Some(moment), life.span().map(|s| s.end_at)),
                    Action::AbortBoot => {}
                }
                pending.extend(answer(action));
            }
            if let Some(span) = life.span() {
                prop_assert!(span.end_at <= span.started_at.plus_seconds(500));
            }
        }
        prop_assert_eq!(life.phase(), Phase::Gone);
        prop_assert_eq!(finishes, 1);
        prop_assert_eq!(forgets, 1);
        prop_assert!(kills <= 1);
    }

    #[test]
    fn extend_only_ever_moves_the_deadline_away(
        steps in proptest::collection::vec((0i64..2_000, 0u32..5_000), 1..30),
    ) {
        let mut life = Life::new(100, 3_000);
        life.step(Event::Booted(at(0))).unwrap();
        for (now, seconds) in steps {
            let before = end_at(&life);
            let actions = life.step(Event::Extend(at(now), seconds)).unwrap();
            prop_assert!(end_at(&life) >= before);
            prop_assert_eq!(actions.is_empty(), end_at(&life) == before);
        }
    }
}
