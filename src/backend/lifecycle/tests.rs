//! On backends that only pretend to take memory.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

use crate::{
    backend::{
        Backend, Config, Footprint, Lease, Load, Model, ModelCard, Readiness, Requests, Tokenizer,
        memory::Memory,
    },
    generation::Error,
    units,
};

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(20);
const SIZE: u64 = 10;

/// What is loaded at one time, and what befalls loads.
#[derive(Default)]
struct Stage {
    memory: Arc<Memory>,
    loaded: Mutex<BTreeSet<String>>,
    most: AtomicUsize,
    attempts: AtomicUsize,
    fails: AtomicBool,
    dead: AtomicBool,
    /// What fails may pass by itself.
    temporary: AtomicBool,
    /// A load waits until it may end.
    slow: Option<Semaphore>,
    /// As a download does.
    far: Option<Semaphore>,
    /// What loads in vain ends when it may.
    stubborn: Option<Semaphore>,
    measured: AtomicUsize,
}

struct Pretended {
    id: String,
    bytes: u64,
    card: ModelCard,
    stage: Arc<Stage>,
}

impl Backend for Pretended {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn readiness(&self) -> Readiness {
        if self.stage.dead.load(SeqCst) {
            Readiness::NotReady("the engine has stopped".to_owned())
        } else {
            Readiness::Ready
        }
    }

    fn footprint(&self, _: Option<u64>) -> BoxFuture<'_, Result<Footprint, String>> {
        async {
            self.stage.measured.fetch_add(1, SeqCst);
            if let Some(far) = &self.stage.far {
                far.acquire().await.unwrap().forget();
            }
            Ok(Footprint { weights: self.bytes, ..Footprint::default() })
        }
        .boxed()
    }

    fn load(&self) -> BoxFuture<'_, Result<(), String>> {
        async {
            self.stage.attempts.fetch_add(1, SeqCst);
            self.stage.dead.store(false, SeqCst);
            tokio::task::yield_now().await;
            if let Some(slow) = &self.stage.slow {
                slow.acquire().await.unwrap().forget();
            }
            if self.stage.fails.load(SeqCst) {
                return Err("its file is broken".to_owned());
            }
            let mut loaded = self.stage.loaded.lock().unwrap();
            assert!(loaded.insert(self.id.clone()), "loaded twice");
            self.stage.most.fetch_max(loaded.len(), SeqCst);
            Ok(())
        }
        .boxed()
    }

    fn warm_up(&self) -> BoxFuture<'_, Result<(), String>> {
        async { Ok(()) }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            tokio::task::yield_now().await;
            if let Some(stubborn) = &self.stage.stubborn {
                stubborn.acquire().await.unwrap().forget();
            }
            self.stage.loaded.lock().unwrap().remove(&self.id);
        }
        .boxed()
    }

    fn may_load_later(&self) -> bool {
        self.stage.temporary.load(SeqCst)
    }

    fn tokenizer(&self) -> Option<&dyn Tokenizer> {
        None
    }
}

fn stage(limit: u64) -> Arc<Stage> {
    let stage = Stage::default();
    stage.memory.set_limit(Some(limit));
    Arc::new(stage)
}

fn lazy() -> Config {
    Config { load: Load::Lazy, ..Config::default() }
}

fn model(stage: &Arc<Stage>, id: &str, bytes: u64, config: &Config) -> Arc<Model> {
    let (stage_, name) = (Arc::clone(stage), id.to_owned());
    let make = move || -> Box<dyn Backend> {
        let card =
            ModelCard { created: 0, owner: String::new(), fingerprint: name.clone(), context_length: 9 };
        Box::new(Pretended { id: name.clone(), bytes, card, stage: Arc::clone(&stage_) })
    };
    Arc::new(Model::made_by(&Arc::from(id), config, &stage.memory, None, make))
}

fn models(stage: &Arc<Stage>, ids: &[&str]) -> Vec<Arc<Model>> {
    ids.iter().map(|id| model(stage, id, SIZE, &lazy())).collect()
}

async fn lease(model: &Arc<Model>) -> Lease {
    timeout(LONG, model.lease()).await.unwrap().unwrap()
}

async fn until(what: &str, fulfilled: impl Fn() -> bool) {
    let begun = Instant::now();
    while !fulfilled() {
        assert!(begun.elapsed() < LONG, "{what}");
        sleep(Duration::from_millis(1)).await;
    }
}

impl Stage {
    fn loaded(&self) -> Vec<String> {
        self.loaded.lock().unwrap().iter().cloned().collect()
    }
}

#[tokio::test]
async fn the_least_recently_used_goes_and_never_one_that_is_busy() {
    let stage = stage(3 * SIZE);
    let all = models(&stage, &["a", "b", "c", "d", "e"]);
    let busy = lease(&all[0]).await;
    for model in &all[1..3] {
        drop(lease(model).await);
    }
    drop(lease(&all[1]).await);
    assert_eq!(stage.loaded(), ["a", "b", "c"]);
    drop(lease(&all[3]).await);
    assert_eq!(stage.loaded(), ["a", "b", "d"]);
    drop(lease(&all[4]).await);
    assert_eq!(stage.loaded(), ["a", "d", "e"]);
    drop(busy);
    assert_eq!(stage.attempts.load(SeqCst), 5);
}

#[tokio::test]
async fn who_finds_all_busy_waits_and_one_who_leaves_is_forgotten() {
    let stage = stage(2 * SIZE);
    let all = models(&stage, &["a", "b", "c", "d"]);
    let (a, b) = (lease(&all[0]).await, lease(&all[1]).await);
    let mut leaving = Box::pin(all[2].lease());
    assert!(timeout(Duration::from_millis(20), &mut leaving).await.is_err());
    let staying = tokio::spawn({
        let d = Arc::clone(&all[3]);
        async move { d.lease().await.map(drop) }
    });
    drop(leaving);
    until("it is given up", || all[2].state() == "not loaded").await;
    drop(a);
    timeout(LONG, staying).await.unwrap().unwrap().unwrap();
    assert_eq!(stage.loaded(), ["b", "d"], "nobody waits for c");
    drop(b);
    assert_eq!(all[2].readiness(), Readiness::Ready);
}

#[tokio::test]
async fn a_model_that_is_never_idle_makes_room_for_one_that_waits() {
    let stage = stage(SIZE);
    let all = models(&stage, &["a", "b"]);
    let mut before = lease(&all[0]).await;
    let waiting = tokio::spawn({
        let b = Arc::clone(&all[1]);
        async move { b.lease().await.map(drop) }
    });
    // Each request for it comes before the last one has ended.
    let begun = Instant::now();
    while !waiting.is_finished() {
        assert!(begun.elapsed() < LONG, "it never has its turn");
        match timeout(Duration::from_millis(100), all[0].lease()).await {
            Ok(next) => {
                before = next.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
            Err(_) => {
                drop(before);
                before = lease(&all[0]).await;
                break;
            }
        }
    }
    timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
    drop(before);
    assert_eq!(stage.most.load(SeqCst), 1);
    assert!(stage.attempts.load(SeqCst) >= 3, "a, b, and a again");
}

#[tokio::test]
async fn those_who_waited_for_a_load_have_the_model_before_it_goes() {
    let stage = Stage { slow: Some(Semaphore::new(0)), ..Stage::default() };
    stage.memory.set_limit(Some(SIZE));
    let stage = Arc::new(stage);
    let all = models(&stage, &["a", "b"]);
    let ask = |model: &Arc<Model>| {
        let model = Arc::clone(model);
        tokio::spawn(async move { model.lease().await.map(drop) })
    };
    let waiting: Vec<_> = (0..20).map(|_| ask(&all[0])).collect();
    until("it loads", || stage.attempts.load(SeqCst) == 1).await;
    let other = ask(&all[1]);
    // By now the other one has lost its patience: it takes a as soon as a is free.
    sleep(Duration::from_millis(1200)).await;
    stage.slow.as_ref().unwrap().add_permits(2);
    for lease in waiting.into_iter().chain([other]) {
        timeout(LONG, lease).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(stage.attempts.load(SeqCst), 2, "each was loaded once");
}

#[tokio::test]
async fn a_load_that_fails_is_told_to_all_who_wait_and_tried_again_later() {
    let stage = stage(SIZE);
    let model = &models(&stage, &["a"])[0];
    stage.fails.store(true, SeqCst);
    for outcome in join_all((0..5).map(|_| model.lease())).await {
        let Err(Error::Unavailable(message)) = outcome else { panic!("it has loaded") };
        assert!(message.contains("its file is broken"), "{message}");
    }
    assert_eq!(stage.attempts.load(SeqCst), 1);
    stage.fails.store(false, SeqCst);
    assert!(model.lease().await.is_err(), "it is not tried again at once");
    assert_eq!(model.readiness(), Readiness::NotReady("its file is broken".to_owned()));
    assert_eq!(stage.attempts.load(SeqCst), 1);
    until("it is tried again", || model.readiness() == Readiness::Ready).await;
    drop(lease(model).await);
    assert_eq!(stage.attempts.load(SeqCst), 2);
}

#[tokio::test]
async fn what_can_never_fit_is_refused_with_the_sum_and_nobody_goes_for_it() {
    let stage = stage(3 << 20);
    let small = model(&stage, "small", 2 << 20, &lazy());
    drop(lease(&small).await);
    let large = model(&stage, "large", 4 << 20, &lazy());
    let Err(Error::Unavailable(message)) = large.lease().await else { panic!("it has loaded") };
    assert!(message.contains("needs 4 MiB") && message.contains("3 MiB are available within"), "{message}");
    assert_eq!(stage.loaded(), ["small"]);
    // One that is not lazy stays.
    let pinned = model(&stage, "pinned", 2 << 20, &Config::default());
    pinned.load().await.unwrap();
    assert_eq!(stage.loaded(), ["pinned"]);
    assert!(small.lease().await.is_err());
    assert_eq!(stage.loaded(), ["pinned"]);
}

#[tokio::test]
async fn an_idle_model_is_unloaded_after_its_time_and_its_card_is_remembered() {
    let stage = stage(SIZE);
    let idle_unload = Some(units::Duration(Duration::from_millis(60)));
    let model = &model(&stage, "a", SIZE, &Config { idle_unload, ..lazy() });
    for _ in 0..2 {
        let busy = lease(model).await;
        sleep(Duration::from_millis(150)).await;
        assert_eq!(stage.loaded(), ["a"], "it is in use");
        drop(busy);
        until("it is unloaded", || stage.loaded().is_empty()).await;
        until("it is told so", || model.state() == "not loaded").await;
        assert_eq!(model.card().context_length, 9);
    }
    assert_eq!(stage.attempts.load(SeqCst), 2);
}

#[tokio::test]
async fn a_model_whose_engine_has_ended_is_loaded_again() {
    let stage = stage(SIZE);
    let model = &models(&stage, &["a"])[0];
    let unlucky = lease(model).await;
    stage.dead.store(true, SeqCst);
    assert!(model.lease().await.is_err(), "who runs on it has to see that first");
    drop(unlucky);
    drop(lease(model).await);
    assert_eq!(stage.attempts.load(SeqCst), 2);
}

#[tokio::test]
async fn a_models_own_limits_hold() {
    let stage = stage(SIZE);
    let wait_timeout = units::Duration(Duration::from_millis(30));
    let requests = Requests { max_running: Some(2), max_waiting: Some(1), wait_timeout };
    let model = &model(&stage, "a", SIZE, &Config { requests, ..lazy() });
    let (first, _second) = (lease(model).await, lease(model).await);
    let waits = model.lease();
    let (third, fourth) = tokio::join!(waits, model.lease());
    assert!(matches!(fourth, Err(Error::Overloaded(_))));
    let Err(Error::Unavailable(message)) = third else { panic!("a third one runs") };
    assert!(message.contains("no turn within 30ms"), "{message}");
    drop(first);
    drop(lease(model).await);
}

#[tokio::test]
async fn a_model_that_was_replaced_gives_its_memory_back_with_its_last_request() {
    let stage = stage(2 * SIZE);
    let old = models(&stage, &["a"]).remove(0);
    let last = lease(&old).await;
    drop(old);
    let new = model(&stage, "b", 2 * SIZE, &lazy());
    let waiting = tokio::spawn(async move { new.lease().await.map(drop) });
    sleep(Duration::from_millis(20)).await;
    assert_eq!(stage.loaded(), ["a"]);
    drop(last);
    timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_download_goes_on_when_nobody_waits_and_who_comes_next_joins_it() {
    let stage = Stage { far: Some(Semaphore::new(0)), ..Stage::default() };
    let stage = Arc::new(stage);
    let model = model(&stage, "a", SIZE, &lazy());
    timeout(Duration::from_millis(20), model.lease()).await.err().expect("nobody lets it end");
    let next = tokio::spawn({
        let model = Arc::clone(&model);
        async move { lease(&model).await }
    });
    until("it waits", || model.lifecycle.state().waiters == 1).await;
    stage.far.as_ref().unwrap().add_permits(1);
    next.await.unwrap();
    assert_eq!(stage.measured.load(SeqCst), 1, "fetched once");
}

#[tokio::test]
async fn a_load_that_is_cut_short_has_its_memory_until_it_has_ended() {
    let stage =
        Stage { slow: Some(Semaphore::new(0)), stubborn: Some(Semaphore::new(0)), ..Stage::default() };
    let stage = Arc::new(stage);
    let model = model(&stage, "a", SIZE, &Config::default());
    let load = tokio::spawn({
        let model = Arc::clone(&model);
        async move { model.load().await }
    });
    until("it loads", || stage.attempts.load(SeqCst) == 1).await;
    load.abort();
    assert!(load.await.unwrap_err().is_cancelled());
    sleep(Duration::from_millis(10)).await;
    assert_eq!(stage.memory.reserved(), SIZE, "what loads has not ended");
    stage.stubborn.as_ref().unwrap().add_permits(1);
    until("it is given back", || stage.memory.reserved() == 0).await;
    assert!(!model.lifecycle.has_failed());
}

#[tokio::test]
async fn what_fails_for_a_while_is_tried_again_and_what_fails_for_good_is_not() {
    for temporary in [true, false] {
        let stage = stage(SIZE);
        stage.fails.store(true, SeqCst);
        stage.temporary.store(temporary, SeqCst);
        let optional = Config { required: false, ..Config::default() };
        let (model, needed) =
            (model(&stage, "a", SIZE, &optional), model(&stage, "b", SIZE, &Config::default()));
        let loading = tokio::spawn(Arc::clone(&model).load_in_time());
        until("it fails", || model.lifecycle.has_failed()).await;
        needed.load().await.unwrap_err();
        for model in [&model, &needed] {
            assert_eq!(model.lifecycle.may_load_later(), temporary);
        }
        stage.fails.store(false, SeqCst);
        timeout(LONG, loading).await.unwrap().unwrap();
        assert_eq!(model.is_loaded(), temporary);
    }
}

#[tokio::test]
async fn nobody_tries_to_load_what_a_reload_has_replaced() {
    let stage = stage(SIZE);
    stage.fails.store(true, SeqCst);
    stage.temporary.store(true, SeqCst);
    let model = model(&stage, "a", SIZE, &Config::default());
    let loading = tokio::spawn(Arc::clone(&model).load_in_time());
    until("it fails", || model.lifecycle.has_failed()).await;
    drop(model);
    timeout(LONG, loading).await.unwrap().unwrap();
    assert_eq!(stage.attempts.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_models_where_three_have_room() {
    let stage = stage(3 * SIZE);
    let ids: Vec<String> = (0..10).map(|n| format!("m{n}")).collect();
    let all: Vec<_> = ids.iter().map(|id| model(&stage, id, SIZE, &lazy())).collect();
    let ask = |n: usize| {
        let model = Arc::clone(&all[n * 7919 % 13 % 10]);
        tokio::spawn(async move {
            let pause = Duration::from_micros((n * 31 % 700) as u64);
            sleep(pause).await;
            if n.is_multiple_of(5) {
                // It leaves, wherever it is by then.
                let _ = timeout(pause * 4, model.lease()).await;
                return;
            }
            let lease = timeout(LONG, model.lease()).await.unwrap().unwrap();
            assert_eq!(lease.backend().card().fingerprint, **model.id());
            sleep(Duration::from_micros((n * 17 % 900) as u64)).await;
        })
    };
    for outcome in join_all((0..600).map(ask)).await {
        outcome.unwrap();
    }
    assert_eq!(stage.most.load(SeqCst), 3);
}
