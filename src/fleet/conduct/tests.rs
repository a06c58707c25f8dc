use proptest::prelude::*;

use super::*;

fn rules(errors: u32) -> Ejection {
    Ejection { errors, ..crate::config::defaults::ejection() }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Failed(Failure),
    /// A whole answer.
    Answered(u16),
    /// A head, whose body goes on.
    Began(u16),
}

fn deed() -> impl Strategy<Value = Deed> {
    let failure = prop::sample::select(vec![Failure::Unreachable, Failure::Late, Failure::Broken, Failure::Cut]);
    let status = || prop::sample::select(vec![200_u16, 302, 404, 500, 502, 503, 504]);
    prop_oneof![
        3 => failure.prop_map(Deed::Failed),
        2 => status().prop_map(Deed::Answered),
        1 => status().prop_map(Deed::Began),
    ]
}

#[test]
fn what_is_counted_is_told_once() {
    let alarm = Arc::new(AtomicBool::new(false));
    let (conduct, rules) = (Conduct::new(Arc::clone(&alarm)), rules(3));
    for _ in 0..2 {
        conduct.failed(Failure::Unreachable, Some(&rules));
    }
    conduct.failed(Failure::Late, None);
    assert!(!alarm.load(Ordering::Relaxed) && conduct.excess().is_none());
    conduct.began(503, Some(&rules));
    assert!(alarm.load(Ordering::Relaxed));
    assert_eq!(conduct.excess(), Some((3, Failure::Status(503))));
    assert_eq!(conduct.excess(), None);
    // Nobody cared: again after as many more.
    for failure in [Failure::Late, Failure::Broken, Failure::Cut] {
        assert_eq!(conduct.excess(), None);
        conduct.failed(failure, Some(&rules));
    }
    assert_eq!(conduct.excess(), Some((6, Failure::Cut)));
    conduct.ended(200, Some(&rules));
    for _ in 0..3 {
        conduct.failed(Failure::Broken, Some(&rules));
    }
    conduct.began(200, Some(&rules));
    assert_eq!(conduct.excess(), None, "it has served since");
    for _ in 0..3 {
        conduct.failed(Failure::Unreachable, Some(&rules));
    }
    conduct.served();
    assert_eq!(conduct.excess(), None, "be it without a status");
}

#[test]
fn half_answers_are_failures_although_each_has_a_head() {
    let (conduct, rules) = (Conduct::default(), rules(3));
    for _ in 0..3 {
        assert_eq!(conduct.excess(), None);
        conduct.began(200, Some(&rules));
        conduct.failed(Failure::Cut, Some(&rules));
    }
    assert_eq!(conduct.excess(), Some((3, Failure::Cut)));
}

proptest! {
    #[test]
    fn only_rows_of_failures_are_told(errors in 1..6_u32, deeds in prop::collection::vec(deed(), 0..60)) {
        let (conduct, rules) = (Conduct::default(), rules(errors));
        let (mut row, mut last) = (0_u32, None);
        for deed in deeds {
            let failure = match deed {
                Deed::Failed(failure) => {
                    conduct.failed(failure, Some(&rules));
                    Some(failure)
                }
                Deed::Began(status) | Deed::Answered(status) => {
                    conduct.began(status, Some(&rules));
                    (status >= 502).then_some(Failure::Status(status))
                }
            };
            match (failure, deed) {
                (Some(failure), _) => (row, last) = (row + 1, Some(failure)),
                (None, Deed::Began(_)) if last == Some(Failure::Cut) => {}
                (None, _) => row = 0,
            }
            if let Deed::Answered(status) = deed {
                conduct.ended(status, Some(&rules));
            }
            let expected = (failure.is_some() && row.is_multiple_of(errors)).then(|| (row, last.unwrap()));
            prop_assert_eq!(conduct.excess(), expected);
        }
    }

    /// No ejection is longer than the longest, or shorter than the first; each is at most twice the one before; who
    /// has behaved for long begins at the first again; and each ends when it was said to.
    #[test]
    fn ejections_grow_and_are_forgiven(
        base in 1..10_000_u64,
        factor in 1..100_u64,
        pauses in prop::collection::vec(0..2_000_000_u64, 1..40),
    ) {
        let rules = Ejection {
            duration: Duration::from_millis(base),
            max_duration: Duration::from_millis(base * factor),
            ..rules(5)
        };
        let (mut ejections, mut now, mut former) = (Ejections::default(), 1_000, None);
        for pause in pauses {
            prop_assert_eq!(ejections.until(), None);
            let length = ejections.eject(&rules, now).unwrap();
            prop_assert!((base..=base * factor).contains(&length));
            if let Some((before, calm)) = former {
                prop_assert!(length <= u64::min(2 * before, base * factor));
                if calm < before {
                    prop_assert!(length >= before, "{} after {} for {}", length, before, calm);
                }
                // All the halvings of the longest one together take less than twice its length.
                if calm >= 2 * base * factor {
                    prop_assert_eq!(length, base);
                }
            }
            prop_assert_eq!(ejections.eject(&rules, now), None, "it is out already");
            prop_assert!(!ejections.readmit(now + length - 1));
            now += length;
            prop_assert!(ejections.readmit(now) && !ejections.readmit(now));
            now += pause;
            former = Some((length, pause));
        }
    }
}
