//! A gateway for tests that always says the same.

use crate::admin::api::{
    Denied, Done, Event, Order, Reloaded, ServiceOrder, SessionCounts, SessionFound, SessionId, Status, sample,
};
use crate::admin::{Answer, Source};
use crate::ids::{BackendName, GenerationId, ServiceName};

/// It has the service `app` and no other one.
pub(crate) struct Fixed {
    pub(crate) ready: bool,
}

fn unknown<T>(service: &ServiceName) -> Option<Result<T, Denied>> {
    Some(Err(Denied::Unknown(format!("there is no {service}"))))
}

impl Source for Fixed {
    fn status(&self) -> Answer<'_, Status> {
        Box::pin(async { Some(sample::status()) })
    }

    fn events(&self) -> Answer<'_, Vec<Event>> {
        let event = Event {
            at: sample::at(0),
            kind: "activated".to_owned(),
            service: None,
            generation: Some(8),
            trouble: false,
            text: "app@8".to_owned(),
        };
        Box::pin(async { Some(vec![event]) })
    }

    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async { Some("tidegate_durable 1\n".to_owned()) })
    }

    fn ready(&self) -> bool {
        self.ready
    }

    /// Tells what it was asked for; promotes no generation by its number, and retires none for nothing.
    fn order(&self, order: Order) -> Answer<'_, Result<Done, Denied>> {
        Box::pin(async move {
            match &order {
                Order::Service(service, _) if service.as_str() != "app" => unknown(service),
                Order::Promote(id) => Some(Err(Denied::NotNow(format!("{} is detached", id.number)))),
                Order::Retire { now: false, .. }
                | Order::Intend { now: false, intent: crate::admin::api::Intent::Down, .. } => {
                    let cost = crate::admin::api::Cost { sessions: 17, unconfirmed: 4, ..Default::default() };
                    Some(Err(Denied::Costs("it holds 17 open sessions".to_owned(), cost)))
                }
                Order::Service(_, ServiceOrder::Roll) => {
                    // No two of them are the same.
                    static ROLLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(9);
                    let number = ROLLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    Some(Ok(Done { changes: vec![order.to_string()], generation: Some(number) }))
                }
                _ => Some(Ok(Done { changes: vec![order.to_string()], generation: None })),
            }
        })
    }

    fn reload(&self, dry_run: bool) -> Answer<'_, Result<Reloaded, String>> {
        let changes = vec!["app@9 starts".to_owned()];
        Box::pin(async move {
            Some(match dry_run {
                true => Ok(Reloaded { changes, notes: vec!["a note".to_owned()] }),
                false => Err("error: no such key\n --> a.toml:3:1".to_owned()),
            })
        })
    }

    fn output(&self, generation: GenerationId, backend: BackendName) -> Answer<'_, Result<Vec<String>, Denied>> {
        Box::pin(async move { Some(Ok(vec![format!("{generation} {backend}")])) })
    }

    fn sessions(&self, service: ServiceName) -> Answer<'_, Result<SessionCounts, Denied>> {
        Box::pin(async move {
            match service.as_str() {
                "app" => Some(Ok(SessionCounts { at: sample::at(0), generations: Vec::new() })),
                _ => unknown(&service),
            }
        })
    }

    /// Only the id `open` is one.
    fn find(&self, service: ServiceName, id: SessionId) -> Answer<'_, Result<SessionFound, Denied>> {
        Box::pin(async move {
            match (service.as_str(), id.id.as_str()) {
                ("app", "open") => Some(Ok(SessionFound {
                    service,
                    generation: 7,
                    backend: BackendName::new("127.0.0.1:8807"),
                    opened_at: sample::at(0),
                    idle_seconds: 3,
                    unconfirmed: false,
                    held: 0,
                    ends_at: Some(sample::at(60)),
                })),
                _ => Some(Err(Denied::Unknown("no open session has this id".to_owned()))),
            }
        })
    }

    fn end(&self, service: ServiceName, id: SessionId) -> Answer<'_, Result<Done, Denied>> {
        Box::pin(async move {
            let found = self.find(service, id).await?;
            Some(found.map(|found| Done { changes: vec!["closed".to_owned()], generation: Some(found.generation) }))
        })
    }
}
