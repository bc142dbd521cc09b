//! The engine's thread: commands → free what is finished → schedule → one forward → sample → tell.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed, mpsc::Receiver},
};

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::model::{Forward, ForwardError, Rows};

use super::{
    active::{Active, Outcome},
    generation::{Event, Failure, Link},
    request::Request,
    sampler::{Sampler, Scratch},
    scheduler::{Run, Scheduler},
    sequence::{Sequence, SequenceId},
    stats::{Counters, add, set},
};

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Command {
    Submit(Box<Submission>),
    Finish {
        request: u64,
        choice: u32,
    },
    /// A consumer made room or went away.
    Wake,
    Stop(Stop),
}

/// How the engine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Finishes what it has, takes nothing new.
    Drain,
    /// Fails what it has, after the step that is under way.
    Abort,
}

#[derive(Debug)]
pub(super) struct Submission {
    pub(super) id: u64,
    pub(super) request: Request,
    pub(super) seed: u64,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) link: Arc<Link>,
    pub(super) place: OwnedSemaphorePermit,
}

pub(super) struct Runner {
    model: Box<dyn Forward>,
    scheduler: Scheduler,
    requests: BTreeMap<u64, Active>,
    commands: Receiver<Command>,
    counters: Arc<Counters>,
    scratch: Scratch,
    stop: Option<Stop>,
}

impl Runner {
    pub(super) fn new(
        model: Box<dyn Forward>,
        scheduler: Scheduler,
        commands: Receiver<Command>,
        counters: Arc<Counters>,
    ) -> Self {
        let (requests, scratch) = (BTreeMap::new(), Scratch::default());
        Self { model, scheduler, requests, commands, counters, scratch, stop: None }
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        while self.obey() {
            self.step();
        }
        self.fail_all(&Failure::Stopped);
        self.publish();
    }

    /// Does as it is told, and sleeps while there is nothing to run. `false` to stop.
    fn obey(&mut self) -> bool {
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.take(command);
            }
            self.drop_abandoned();
            for (id, active) in &self.requests {
                self.scheduler.pause(*id, !active.has_room());
            }
            match self.stop {
                Some(Stop::Abort) => return false,
                Some(Stop::Drain) if self.requests.is_empty() => return false,
                _ => {}
            }
            self.publish();
            if self.scheduler.has_work() {
                return true;
            }
            match self.commands.recv() {
                Ok(command) => self.take(command),
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            // What came too late is dropped, and with it the channel: its consumer sees that the engine stopped.
            Command::Submit(submission) if self.stop.is_none() => self.accept(*submission),
            Command::Submit(_) | Command::Wake => {}
            Command::Finish { request, choice } => self.close(SequenceId { request, choice }),
            Command::Stop(stop) => self.stop = self.stop.max(Some(stop)),
        }
    }

    fn accept(&mut self, submission: Submission) {
        let Submission { id, request, seed, events, link, place } = submission;
        let Request { prompt, choices, sampling, prompt_logprobs, adapter, cache_seed } = request;
        let settings = Arc::new(sampling);
        let sampler = |choice| (choice, Sampler::new(Arc::clone(&settings), seed, choice, &prompt));
        let samplers = (0..choices).map(sampler).collect();
        let mut active = Active::new(events, link, place, Arc::clone(&settings), samplers);
        if let Some(top) = prompt_logprobs {
            active.score_prompt(prompt.clone(), top);
        }
        for choice in 0..choices {
            let scores = choice == 0 && prompt_logprobs.is_some();
            let sequence = Sequence::new(prompt.clone(), cache_seed, scores).through(adapter);
            self.scheduler.add(SequenceId { request: id, choice }, sequence);
        }
        self.requests.insert(id, active);
    }

    fn drop_abandoned(&mut self) {
        let abandoned = self.requests.iter().filter(|(_, active)| active.is_abandoned());
        for id in abandoned.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    fn step(&mut self) {
        let batch = self.scheduler.schedule();
        for run in &batch {
            if let Some(active) = self.requests.get_mut(&run.id.request) {
                active.runs();
            }
        }
        self.counters.stepping.store(true, Relaxed);
        add(&self.counters.steps, 1);
        self.publish();
        match self.forward(&batch) {
            Ok(Ok(logits)) => self.deliver(&batch, &logits),
            Ok(Err(error)) => {
                for run in &batch {
                    self.fail(run.id.request, Failure::Forward(error.to_string()));
                }
            }
            Err(payload) => self.recover(payload.as_ref()),
        }
        self.counters.stepping.store(false, Relaxed);
    }

    /// Logits of the rows that the batch wants. The outer error is a panic's payload.
    fn forward(&mut self, batch: &[Run]) -> Result<Result<Vec<f32>, ForwardError>, Box<dyn Any + Send>> {
        let (copies, chunks) = (self.scheduler.copies(batch), self.scheduler.chunks(batch));
        let wanted = batch.iter().map(rows).sum::<usize>() * self.model.shape().vocabulary;
        // Sound: after a panic nothing that the model held is used before it has made room anew.
        let result = catch_unwind(AssertUnwindSafe(|| {
            copies.iter().try_for_each(|&(from, to)| self.model.copy_block(from, to))?;
            self.model.forward(&chunks)
        }))?;
        Ok(result.and_then(|logits| {
            let got = logits.len();
            let mismatch = || ForwardError(format!("{got} logits came where {wanted} were asked for"));
            if got == wanted { Ok(logits) } else { Err(mismatch()) }
        }))
    }

    fn deliver(&mut self, batch: &[Run], logits: &[f32]) {
        let mut rest = logits;
        add(&self.counters.tokens_run, batch.iter().map(|run| run.len).sum());
        for run in batch {
            let (own, others) = rest.split_at(rows(run) * self.model.shape().vocabulary);
            rest = others;
            self.scheduler.computed(run);
            self.answer(run, own);
        }
    }

    /// `logits` are the rows that the run wanted.
    fn answer(&mut self, run: &Run, logits: &[f32]) {
        let vocabulary = self.model.shape().vocabulary;
        // Another choice may have brought the request down a moment ago.
        let Some(active) = self.requests.get_mut(&run.id.request) else { return };
        let Some(sequence) = self.scheduler.sequence(run.id) else { return };
        let cached = sequence.cached().unwrap_or(0);
        let scored = if run.rows == Rows::All { active.score(run.start, logits, vocabulary) } else { Ok(()) };
        let outcome = match logits.rchunks_exact(vocabulary).next() {
            Some(row) if run.start + run.len == sequence.tokens().len() => {
                add(&self.counters.tokens_cached, if active.is_silent() { cached } else { 0 });
                scored.and_then(|()| active.answer(run.id.choice, row, cached, &mut self.scratch)).map(Some)
            }
            _ => scored.map(|()| None),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(Outcome::Continues(token))) => {
                add(&self.counters.tokens_drawn, 1);
                self.scheduler.push(run.id, token);
            }
            Ok(Some(Outcome::Ended { drawn })) => {
                add(&self.counters.tokens_drawn, drawn);
                self.close(run.id);
            }
            Err(error) => self.fail(run.id.request, Failure::Sampling(error.to_string())),
        }
    }

    /// After a panic the KV cache may hold anything: nobody keeps a block, no prefix is found, the model starts over.
    fn recover(&mut self, payload: &(dyn Any + Send)) {
        self.fail_all(&Failure::Panic(message(payload)));
        self.scheduler.cache().forget();
        let blocks = self.scheduler.cache().usage().total;
        let allocated = catch_unwind(AssertUnwindSafe(|| self.model.allocate(blocks)));
        if !matches!(allocated, Ok(Ok(()))) {
            self.stop = Some(Stop::Abort);
        }
    }

    /// Ends a choice, and the request with its last one.
    fn close(&mut self, id: SequenceId) {
        self.scheduler.remove(id);
        if self.requests.get_mut(&id.request).is_some_and(|active| active.close(id.choice)) {
            self.requests.remove(&id.request);
        }
    }

    fn fail_all(&mut self, failure: &Failure) {
        for id in self.requests.keys().copied().collect::<Vec<_>>() {
            self.fail(id, failure.clone());
        }
    }

    fn fail(&mut self, request: u64, failure: Failure) {
        if let Some(active) = self.forget(request) {
            active.fail(failure);
        }
    }

    fn forget(&mut self, request: u64) -> Option<Active> {
        self.scheduler.remove_request(request);
        self.requests.remove(&request)
    }

    fn publish(&self) {
        let counters = &self.counters;
        let usage = self.scheduler.cache().usage();
        let sequences = || self.scheduler.sequences().map(|(_, sequence)| sequence);
        let running = sequences().filter(|sequence| sequence.is_admitted()).count();
        set(&counters.running, running);
        set(&counters.waiting, sequences().count() - running);
        set(&counters.paused, sequences().filter(|sequence| sequence.is_paused()).count());
        set(&counters.blocks, usage.total);
        set(&counters.blocks_used, usage.held);
        set(&counters.blocks_cached, usage.cached);
        counters.preemptions.store(self.scheduler.preemptions(), Relaxed);
    }
}

/// Rows of logits that a run brings.
fn rows(run: &Run) -> usize {
    match run.rows {
        Rows::None => 0,
        Rows::Last => 1,
        Rows::All => run.len,
    }
}

pub(super) fn message(payload: &(dyn Any + Send)) -> String {
    let text =
        payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
