//! The thread that owns an engine and steps it, and the handles by which others give it work.
//!
//! A request's events go through a channel that never blocks the engine: a reader may be as slow as it likes. What can pile
//! up is bounded by the request itself, which has no more events than its context has tokens. A dropped [`Running`]
//! cancels its request before the next step, so within one chunk of a prompt.

use sampan_engine::{Engine, EngineStats, Event, Request, RequestId, SubmitError};
use std::collections::HashMap;
use std::sync::mpsc as orders;
use tokio::sync::{mpsc, oneshot, watch};

/// A way to the engine's thread, which ends when the last one is dropped and no request is left.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    to: orders::Sender<Order>,
    stats: watch::Receiver<EngineStats>,
}

#[derive(Debug)]
enum Order {
    Submit(Box<Request>, mpsc::UnboundedSender<Event>, oneshot::Sender<Result<RequestId, SubmitError>>),
    Cancel(RequestId),
}

/// Why a request was not taken on.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The engine says why.
    Submit(SubmitError),
    /// The engine's thread has ended, which it only does by a fault.
    Gone,
}

/// A request that the engine has taken on. Dropping it cancels the request.
#[derive(Debug)]
pub(crate) struct Running {
    id: RequestId,
    events: mpsc::UnboundedReceiver<Event>,
    to: orders::Sender<Order>,
}

impl Running {
    /// The next event; `None` only if the engine's thread has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody is there to be told when the thread has ended; and of a request that has ended the engine knows nothing.
        let _ = self.to.send(Order::Cancel(self.id));
    }
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(engine: Engine) -> std::io::Result<Worker> {
        let (to, inbox) = orders::channel();
        let (publish, stats) = watch::channel(engine.stats());
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || Owner { publish, engine, listeners: HashMap::new() }.run(&inbox))?;
        Ok(Worker { to, stats })
    }

    /// Hands a request to the engine.
    pub(crate) async fn submit(&self, request: Request) -> Result<Running, Refused> {
        let (listener, events) = mpsc::unbounded_channel();
        let (reply, answer) = oneshot::channel();
        self.to.send(Order::Submit(Box::new(request), listener, reply)).map_err(|_| Refused::Gone)?;
        let id = answer.await.map_err(|_| Refused::Gone)?.map_err(Refused::Submit)?;
        Ok(Running { id, events, to: self.to.clone() })
    }

    /// The engine's numbers after its last step, or after a request has come since.
    pub(crate) fn stats(&self) -> EngineStats {
        *self.stats.borrow()
    }

    /// Whether the thread runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.stats.has_changed().is_ok()
    }
}

/// What lives on the thread.
struct Owner {
    /// First, as fields are dropped in this order: who loses its answer by a fault finds the engine dead, not alive.
    publish: watch::Sender<EngineStats>,
    engine: Engine,
    listeners: HashMap<RequestId, mpsc::UnboundedSender<Event>>,
}

impl Owner {
    fn run(mut self, inbox: &orders::Receiver<Order>) {
        loop {
            if self.engine.is_idle() {
                match inbox.recv() {
                    Ok(order) => self.take(order),
                    Err(_) => return,
                }
            }
            while let Ok(order) = inbox.try_recv() {
                self.take(order);
            }
            let events = self.engine.step();
            // Before the events: who hears that a request has ended sees it gone from the numbers too.
            self.publish.send_replace(self.engine.stats());
            for event in events {
                self.deliver(event);
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Cancel(id) => self.engine.cancel(id),
            Order::Submit(request, listener, reply) => {
                let taken = self.engine.submit(*request);
                // Before the answer: who hears that a request is taken on finds it in the numbers.
                self.publish.send_replace(self.engine.stats());
                let id = taken.as_ref().ok().copied();
                let heard = reply.send(taken).is_ok();
                match id {
                    Some(id) if heard => {
                        self.listeners.insert(id, listener);
                    }
                    Some(id) => self.engine.cancel(id),
                    None => {}
                }
            }
        }
    }

    fn deliver(&mut self, event: Event) {
        let (Event::Started { id, .. }
        | Event::Prompt { id, .. }
        | Event::Token { id, .. }
        | Event::Finished { id, .. }) = event;
        let ended = matches!(event, Event::Finished { .. });
        let heard = self.listeners.get(&id).is_some_and(|listener| listener.send(event).is_ok());
        if ended {
            self.listeners.remove(&id);
        } else if !heard {
            self.engine.cancel(id);
        }
    }
}
