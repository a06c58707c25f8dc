//! How the rest of the house speaks to control: a cloneable handle on its channel.

use tokio::sync::{mpsc, oneshot};

use super::Loaded;
use super::reload::ReloadSummary;
use super::status::Status;
use crate::fleet::event::{Event, FleetEvent, IntentOrder, Refusal, Request};
use crate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName};
use crate::record::event::EventRecord;

/// Messages that wait for the loop; senders wait beyond it.
pub(super) const CAPACITY: usize = 256;

/// Where an answer goes; nobody may be waiting any more.
pub(super) type Reply<T> = oneshot::Sender<T>;

/// What comes in on the one channel of the loop.
pub(super) enum Message {
    /// Read the file again.
    Reload(Reply<Result<ReloadSummary, ReloadError>>),
    /// Read the file again, and say what it would do.
    Preview(Reply<Result<ReloadSummary, ReloadError>>),
    /// The file was read for that.
    Previewed(Result<Loaded, String>, Reply<Result<ReloadSummary, ReloadError>>),
    /// Show what a worker printed last.
    Output(GenerationId, BackendName, Reply<Option<Vec<String>>>),
    /// Answer.
    Ping(Reply<()>),
    /// Show what is.
    Status(Reply<Box<Status>>),
    /// Show what was.
    Events(Reply<Vec<EventRecord>>),
    /// Something happened to the gateway as a whole.
    Note { kind: String, trouble: bool, text: String },
    /// Do what an operator asks for.
    Request(Request, Reply<Result<Vec<FleetEvent>, Refusal>>),
    /// A task has something to tell the roster.
    Happened(Event),
    /// A reload came one step further.
    Reloading(super::reload::Step),
}

/// Control has ended: the gateway is stopping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the gateway is stopping")]
pub struct Stopped;

/// Why a reload changed nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file cannot be used; the report says where and why.
    #[error("{0}")]
    Rejected(String),
    /// The gateway is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why an operator's request was not granted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Denial {
    /// The fleet does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The gateway is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Speaks to a running [`Control`](super::Control). All methods are cancel-safe; what was asked for may happen all the same.
#[derive(Clone, Debug)]
pub struct Handle {
    channel: mpsc::Sender<Message>,
}

impl Handle {
    pub(super) fn new(channel: mpsc::Sender<Message>) -> Self {
        Self { channel }
    }

    /// Reads the file again and applies it. Requests that come while a reload is under way share the one after it.
    ///
    /// # Errors
    /// [`ReloadError::Rejected`] with the report; then nothing has changed.
    pub async fn reload(&self) -> Result<ReloadSummary, ReloadError> {
        self.ask(Message::Reload).await?
    }

    /// Reads the file again and says what a reload would do now. Nothing changes, and no listener is bound.
    ///
    /// # Errors
    /// [`ReloadError::Rejected`] with the report.
    pub async fn preview(&self) -> Result<ReloadSummary, ReloadError> {
        self.ask(Message::Preview).await?
    }

    /// The last lines that the process of a backend printed, oldest first; `None` where the gateway runs none.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn output(&self, generation: GenerationId, backend: BackendName) -> Result<Option<Vec<String>>, Stopped> {
        self.ask(|reply| Message::Output(generation, backend, reply)).await
    }

    /// Answers when the loop has come to it: it is alive.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn ping(&self) -> Result<(), Stopped> {
        self.ask(Message::Ping).await
    }

    /// What is.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn status(&self) -> Result<Status, Stopped> {
        self.ask(Message::Status).await.map(|status| *status)
    }

    /// The last events, oldest first, those of former runs among them: at most 1,000, none older than 24 hours.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn events(&self) -> Result<Vec<EventRecord>, Stopped> {
        self.ask(Message::Events).await
    }

    /// Adds an event about the gateway as a whole, see [`Control::note`](super::Control::note).
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn note(&self, kind: &str, trouble: bool, text: String) -> Result<(), Stopped> {
        let note = Message::Note { kind: kind.to_owned(), trouble, text };
        self.channel.send(note).await.map_err(|_| Stopped)
    }

    /// Brings up the next generation of a service whose workers the gateway runs, or tries a failed one again. A roll under
    /// way is waited for. It has only begun by the answer.
    ///
    /// # Errors
    /// [`Denial::Refused`] with the reason; then nothing has changed.
    pub async fn roll(&self, service: ServiceName) -> Result<Vec<FleetEvent>, Denial> {
        self.request(Request::Roll { service }).await
    }

    /// Makes an older generation active again: `to`, or the youngest that is older than the active one.
    ///
    /// # Errors
    /// [`Denial::Refused`] when there is none; then nothing has changed.
    pub async fn rollback(
        &self,
        service: ServiceName,
        to: Option<GenerationNumber>,
    ) -> Result<Vec<FleetEvent>, Denial> {
        self.request(Request::Rollback { service, to }).await
    }

    /// Makes the generation active that is ready beside the active one; if it is `only` this one, where one is named.
    ///
    /// # Errors
    /// [`Denial::Refused`] when there is none; then nothing has changed.
    pub async fn promote(
        &self,
        service: ServiceName,
        only: Option<GenerationNumber>,
    ) -> Result<Vec<FleetEvent>, Denial> {
        self.request(Request::Promote { service, generation: only }).await
    }

    /// Gives up a generation that takes no sessions yet, or aborts the ramp of one that takes a share of them. The active
    /// one is refused.
    ///
    /// # Errors
    /// [`Denial::Refused`] with the reason; then nothing has changed.
    pub async fn detach(&self, generation: GenerationId) -> Result<Vec<FleetEvent>, Denial> {
        self.request(Request::Detach { generation }).await
    }

    /// Retires a detached generation; with `now`, whoever is on it.
    ///
    /// # Errors
    /// [`Denial::Refused`] with the reason; then nothing has changed.
    pub async fn retire(&self, generation: GenerationId, now: bool) -> Result<Vec<FleetEvent>, Denial> {
        self.request(Request::Retire { generation, now }).await
    }

    /// Changes what is wanted of a backend, until the file says something else of it.
    ///
    /// # Errors
    /// [`Denial::Refused`] with the reason; then nothing has changed.
    pub async fn intend(&self, order: IntentOrder) -> Result<Vec<FleetEvent>, Denial> {
        self.request(Request::Intend(order)).await
    }

    /// Has a service turn new sessions away, or take them again, until the file says something else of it.
    ///
    /// # Errors
    /// [`Denial::Refused`] with the reason; then nothing has changed.
    pub async fn maintain(&self, service: ServiceName, on: bool) -> Result<Vec<FleetEvent>, Denial> {
        self.request(Request::Maintain { service, on }).await
    }

    async fn request(&self, request: Request) -> Result<Vec<FleetEvent>, Denial> {
        Ok(self.ask(|reply| Message::Request(request, reply)).await??)
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.channel.send(message(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}
