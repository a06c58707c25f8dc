//! The HTTP/2 connections of one thread to one backend.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::link::Link;
use crate::clock::Clock;
use crate::config::model::Address;
use crate::upstream::pool::Limits;

/// Connections of one thread to one backend. Beyond them, requests share what there is: they wait at a backend that
/// allows no more streams, and the windows are no longer enough for all at once.
const MOST_LINKS: usize = 64;
/// New connections that may turn out to be closed already until a request gives up.
const MOST_CLOSED: u32 = 3;

/// The connections, those first that are used first: what is at the end rests when there is less to do, and is closed.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    links: RefCell<Vec<Rc<Link>>>,
    opening: RefCell<Option<Rc<Opening>>>,
}

/// A connection on its way, and those who wait for it. It goes on without them, should they leave.
#[derive(Debug, Default)]
struct Opening {
    result: OnceCell<Result<Rc<Link>, (io::ErrorKind, String)>>,
    done: Notify,
    /// Whether the connection has been put to the others.
    taken: Cell<bool>,
}

impl Lane {
    /// Whether there is nothing to look after.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.borrow().is_empty() && self.opening.borrow().is_none()
    }

    /// A connection with room for a stream.
    pub(crate) fn find(&self) -> Option<Rc<Link>> {
        self.harvest();
        let mut links = self.links.borrow_mut();
        links.retain(|link| !link.has_ended());
        if let Some(link) = links.iter().find(|link| link.is_open() && link.room() > 0) {
            return Some(Rc::clone(link));
        }
        if links.len() < MOST_LINKS {
            return None;
        }
        links.iter().filter(|link| link.is_open()).min_by_key(|link| link.streams()).cloned()
    }

    /// A connection with room for a stream: one that is there, or a new one. Those who come at the same time share it.
    ///
    /// Cancel-safe: who leaves takes nothing from the others.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub(crate) async fn open(&self, address: &Address, limits: Limits, clock: &Clock) -> io::Result<Rc<Link>> {
        let mut closed = 0;
        loop {
            if let Some(link) = self.find() {
                return Ok(link);
            }
            if closed == MOST_CLOSED {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "it ends every connection at once"));
            }
            let opening = Rc::clone(self.opening.borrow_mut().get_or_insert_with(|| begin(address, limits, clock)));
            while opening.result.get().is_none() {
                opening.done.notified().await;
            }
            match opening.result.get() {
                Some(Err((kind, message))) => {
                    self.harvest();
                    return Err(io::Error::new(*kind, message.clone()));
                }
                // It allows no streams at all for now: the request waits until it does.
                Some(Ok(link)) if link.is_open() && link.streams() == 0 => {
                    self.harvest();
                    return Ok(Rc::clone(link));
                }
                Some(Ok(link)) => {
                    self.harvest();
                    // Otherwise the first that came have taken all its room.
                    closed += u32::from(!link.is_open());
                }
                None => {}
            }
        }
    }

    /// Puts a new connection to the others.
    fn harvest(&self) {
        let mut slot = self.opening.borrow_mut();
        let Some(opening) = slot.take_if(|opening| opening.result.get().is_some()) else { return };
        if let Some(Ok(link)) = opening.result.get()
            && !opening.taken.replace(true)
        {
            self.links.borrow_mut().push(Rc::clone(link));
        }
    }

    /// Looks after each connection: see [`Link::look_after`].
    pub(crate) fn look_after(&self, most_idle: Option<Duration>) {
        self.harvest();
        let mut links = self.links.borrow_mut();
        links.retain(|link| {
            link.look_after(most_idle);
            !link.has_ended()
        });
        if links.len() < links.capacity() / 4 {
            links.shrink_to_fit();
        }
    }
}

fn begin(address: &Address, limits: Limits, clock: &Clock) -> Rc<Opening> {
    let opening = Rc::new(Opening::default());
    let (address, clock) = (address.clone(), clock.clone());
    let theirs = Rc::clone(&opening);
    tokio::task::spawn_local(async move {
        let result = Link::open(&address, limits, &clock).await;
        // Nobody else sets it.
        let _ = theirs.result.set(result.map_err(|error| (error.kind(), error.to_string())));
        theirs.done.notify_waiters();
    });
    opening
}
