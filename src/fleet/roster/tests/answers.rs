//! What requests see of other generations than the active one, and where clients find backends by themselves.

use super::*;
use crate::config::model::PathPattern;

fn at(port: u16, public: &str) -> Backend {
    Backend { public: Some(Address::Tcp { host: public.to_owned(), port: 443 }), ..backend(port) }
}

fn listed(generations: Vec<(u64, Vec<Backend>)>) -> Model {
    let listed = |(number, backends)| Listed { number: GenerationNumber(number), backends };
    let plan = Plan::Explicit(generations.into_iter().map(listed).collect());
    model(vec![Service { asset_fallback: vec![PathPattern::Below("/assets/".to_owned())], ..service("app", plan) }])
}

impl Stage {
    /// Public hosts by the number of the backend's generation.
    fn public(&self) -> Vec<(u64, String)> {
        let public = |backend: &Arc<crate::fleet::backend::Backend>| {
            let address = self.view.public(backend.slot)?;
            Some((backend.generation.number.0, address.to_string()))
        };
        self.view.backends().filter_map(public).collect()
    }

    fn serving(&self) -> Vec<(u64, usize)> {
        let serving = &self.view.services[0].serving;
        serving.iter().map(|one| (one.number.0, one.placements.list().len())).collect()
    }
}

#[test]
fn public_addresses_change_in_place_and_outlive_file_and_process() {
    let mut stage = Stage::new();
    stage.roll(listed(vec![(1, vec![at(1, "a"), backend(2)])]));
    let states = stage.states("app");
    assert_eq!(stage.public(), [(1, "a:443".to_owned())]);
    stage.load(listed(vec![(1, vec![at(1, "b"), backend(2)])]));
    assert_eq!((stage.public(), stage.states("app")), (vec![(1, "b:443".to_owned())], states));
    assert!(stage.load(listed(vec![(1, vec![at(1, "b"), backend(2)])])).is_empty(), "the same file");
    // The backend vanishes, then the whole generation: whoever is bound there still goes to where it was.
    stage.load(listed(vec![(1, vec![backend(2)])]));
    assert_eq!(stage.public(), [(1, "b:443".to_owned())]);
    let held = stage.view.services[0].active.as_ref().map(|active| active.gate.enter());
    stage.roll(listed(vec![(2, vec![at(3, "c")])]));
    let both = [(1, "b:443".to_owned()), (2, "c:443".to_owned())];
    assert_eq!(stage.public(), both);
    let mut stage = stage.restart();
    stage.load(listed(vec![(2, vec![at(3, "c")])]));
    assert_eq!(stage.public(), both);
    drop(held);
}

#[test]
fn those_that_serve_are_listed_from_the_newest_on_where_somebody_asks_them() {
    let mut stage = Stage::new();
    stage.roll(listed(vec![(1, vec![backend(1), backend(2)])]));
    let one = stage.view.services[0].active.as_ref().and_then(|active| active.gate.enter());
    stage.roll(listed(vec![(2, vec![backend(3)])]));
    assert_eq!(stage.serving(), [(2, 1), (1, 2)], "those that left the file serve as well");
    // One that is starting serves nobody yet.
    stage.load(listed(vec![(3, vec![backend(4)])]));
    assert_eq!(stage.serving(), [(2, 1), (1, 2)]);
    drop(one);
    stage.apply(Event::GenerationEmptied);
    assert_eq!(stage.serving(), [(2, 1)]);
    stage.roll(model(vec![service("app", explicit(&[(3, &[4])]))]));
    assert_eq!(stage.serving(), [], "nobody asks them");
}
