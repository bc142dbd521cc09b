//! Vectors of texts: sequences of all requests share batches, on one OS thread for each model.
//!
//! Requests take turns, one sequence each, until a batch has its tokens: a request of thousands of texts does not hold up
//! one of a single text. Nothing is filled up, and a vector depends on its own sequence alone ([`Encode`]).

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, Sender},
    },
    thread::Builder,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{
    generation::Failure,
    request::SubmitError,
    runner::message,
    stats::{add, set},
};
use crate::model::{Encode, EncodeShape, Sequence};

/// One text, as [`Sequence`] has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    pub tokens: Vec<u32>,
    pub types: Vec<u32>,
    pub prompt: usize,
    pub dimensions: Option<usize>,
}

/// The vectors of a request, in its texts' order. Dropping it cancels what has not been begun.
pub type Vectors = oneshot::Receiver<Result<Vec<Vec<f32>>, Failure>>;

/// The batcher at one moment. Counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatcherStats {
    /// Batches that were begun.
    pub steps: u64,
    /// Grows with each layer that a batch went through: the heartbeat.
    pub beats: u64,
    /// A batch is under way.
    pub stepping: bool,
    /// Texts whose turn has not come.
    pub waiting: u64,
    pub tokens_run: u64,
    /// Vectors that were made.
    pub vectors: u64,
}

#[derive(Debug, Default)]
struct Counters {
    steps: AtomicU64,
    beats: AtomicU64,
    stepping: AtomicBool,
    waiting: AtomicU64,
    tokens_run: AtomicU64,
    vectors: AtomicU64,
}

/// A model that makes vectors. Shared by reference.
#[derive(Debug)]
pub struct Batcher {
    /// Taken away by `stop`.
    requests: Mutex<Option<Sender<Job>>>,
    shape: EncodeShape,
    queue: Arc<Semaphore>,
    max_waiting: usize,
    counters: Arc<Counters>,
    /// Closed once the thread has ended and dropped the model.
    alive: watch::Receiver<()>,
}

/// A request under way.
#[derive(Debug)]
struct Job {
    texts: VecDeque<Text>,
    vectors: Vec<Vec<f32>>,
    answer: oneshot::Sender<Result<Vec<Vec<f32>>, Failure>>,
    /// Its place among those that wait, until its first batch.
    place: Option<OwnedSemaphorePermit>,
}

impl Batcher {
    /// Starts the thread. `max_batch_tokens` bounds a batch of more than one text, `max_waiting` the requests that wait for
    /// their first batch.
    ///
    /// # Errors
    /// No thread from the operating system.
    pub fn start(model: Box<dyn Encode>, max_batch_tokens: usize, max_waiting: usize) -> io::Result<Self> {
        let shape = model.shape().clone();
        let (requests, receiver) = std::sync::mpsc::channel();
        let counters = Arc::new(Counters::default());
        let (living, alive) = watch::channel(());
        let shared = Arc::clone(&counters);
        Builder::new().name("engine".to_owned()).spawn(move || {
            Runner { model, receiver, jobs: VecDeque::new(), max_batch_tokens, counters: shared }.run();
            drop(living);
        })?;
        let max_waiting = max_waiting.clamp(1, Semaphore::MAX_PERMITS);
        let queue = Arc::new(Semaphore::new(max_waiting));
        let requests = Mutex::new(Some(requests));
        Ok(Self { requests, shape, queue, max_waiting, counters, alive })
    }

    #[must_use]
    pub fn shape(&self) -> &EncodeShape {
        &self.shape
    }

    /// Whether the model can take a text.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, text: &Text) -> Result<(), SubmitError> {
        let (limit, prompt, vocabulary) =
            (self.shape.context_length, text.tokens.len(), self.shape.vocabulary);
        if prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if prompt > limit {
            return Err(SubmitError::ContextLengthExceeded { limit, prompt, completion: 0 });
        }
        match text.tokens.iter().find(|id| **id as usize >= vocabulary) {
            Some(&id) => Err(SubmitError::UnknownToken { id, vocabulary }),
            None => Ok(()),
        }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// A text that [`check`](Self::check) refuses, a full queue, or a thread that has ended.
    pub fn submit(&self, texts: Vec<Text>) -> Result<Vectors, SubmitError> {
        texts.iter().try_for_each(|text| self.check(text))?;
        let full = |_| SubmitError::QueueFull { waiting: self.max_waiting };
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(full)?;
        let (answer, vectors) = oneshot::channel();
        let job =
            Job { vectors: Vec::with_capacity(texts.len()), texts: texts.into(), answer, place: Some(place) };
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = requests.as_ref().and_then(|requests| requests.send(job).ok());
        sent.ok_or(SubmitError::Stopped)?;
        Ok(vectors)
    }

    #[must_use]
    pub fn stats(&self) -> BatcherStats {
        let Counters { steps, beats, stepping, waiting, tokens_run, vectors } = &*self.counters;
        BatcherStats {
            steps: steps.load(Relaxed),
            beats: beats.load(Relaxed),
            stepping: stepping.load(Relaxed),
            waiting: waiting.load(Relaxed),
            tokens_run: tokens_run.load(Relaxed),
            vectors: vectors.load(Relaxed),
        }
    }

    /// Takes no more requests. The thread ends, and drops the model, when it has answered those that it has.
    pub fn stop(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits until the thread has ended and the model is gone.
    pub async fn stopped(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// The thread has ended and the model is gone.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.alive.has_changed().is_err()
    }
}

struct Runner {
    model: Box<dyn Encode>,
    receiver: Receiver<Job>,
    jobs: VecDeque<Job>,
    max_batch_tokens: usize,
    counters: Arc<Counters>,
}

impl Runner {
    /// Runs until nobody can ask any more.
    fn run(mut self) {
        loop {
            self.jobs.extend(self.receiver.try_iter());
            self.finish();
            if !self.jobs.is_empty() {
                self.step();
                continue;
            }
            match self.receiver.recv() {
                Ok(job) => self.jobs.push_back(job),
                Err(_) => return,
            }
        }
    }

    /// Answers what is done, and forgets what nobody waits for.
    fn finish(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            if job.texts.is_empty() {
                // Nobody may wait any more.
                let _ = job.answer.send(Ok(job.vectors));
            } else if !job.answer.is_closed() {
                self.jobs.push_back(job);
            }
        }
        set(&self.counters.waiting, self.jobs.iter().map(|job| job.texts.len()).sum());
    }

    /// Takes texts from the requests in turn, as many as the batch has room for and one in any case: the places of their
    /// requests, and the texts.
    fn batch(&mut self) -> (Vec<usize>, Vec<Text>) {
        let (mut places, mut texts, mut tokens) = (Vec::new(), Vec::new(), 0);
        // The first has the next batch behind the others.
        self.jobs.rotate_left(1);
        let mut open: Vec<usize> = (0..self.jobs.len()).collect();
        while !open.is_empty() {
            open.retain(|&place| {
                let job = &mut self.jobs[place];
                let fits =
                    |text: &mut Text| texts.is_empty() || tokens + text.tokens.len() <= self.max_batch_tokens;
                let Some(text) = job.texts.pop_front_if(fits) else { return false };
                tokens += text.tokens.len();
                job.place = None;
                places.push(place);
                texts.push(text);
                true
            });
        }
        (places, texts)
    }

    fn step(&mut self) {
        let (places, texts) = self.batch();
        let counters = Arc::clone(&self.counters);
        counters.stepping.store(true, Relaxed);
        add(&counters.steps, 1);
        add(&counters.beats, 1);
        set(&counters.waiting, self.jobs.iter().map(|job| job.texts.len()).sum());
        let made = self.encode(&texts);
        add(&counters.tokens_run, texts.iter().map(|text| text.tokens.len()).sum());
        match made {
            Ok(vectors) => {
                add(&counters.vectors, vectors.len());
                for (place, vector) in places.into_iter().zip(vectors) {
                    self.jobs[place].vectors.push(vector);
                }
            }
            Err(failure) => {
                let mut failed = places;
                failed.sort_unstable();
                failed.dedup();
                for place in failed.into_iter().rev() {
                    if let Some(job) = self.jobs.remove(place) {
                        // Nobody may wait any more.
                        let _ = job.answer.send(Err(failure.clone()));
                    }
                }
            }
        }
        counters.stepping.store(false, Relaxed);
    }

    fn encode(&mut self, texts: &[Text]) -> Result<Vec<Vec<f32>>, Failure> {
        let sequences: Vec<Sequence<'_>> = texts.iter().map(Text::sequence).collect();
        // Sound: a model keeps nothing from one batch to the next but the room for it.
        let alive = || add(&self.counters.beats, 1);
        let made = catch_unwind(AssertUnwindSafe(|| self.model.encode(&sequences, &alive)));
        match made {
            Ok(Ok(vectors)) if vectors.len() == texts.len() => Ok(vectors),
            Ok(Ok(vectors)) => {
                Err(Failure::Forward(format!("{} vectors came of {} texts", vectors.len(), texts.len())))
            }
            Ok(Err(error)) => Err(Failure::Forward(error.to_string())),
            Err(payload) => Err(Failure::Panic(message(payload.as_ref()))),
        }
    }
}

impl Text {
    fn sequence(&self) -> Sequence<'_> {
        let Self { tokens, types, prompt, dimensions } = self;
        Sequence { tokens, types, prompt: *prompt, dimensions: *dimensions }
    }
}
