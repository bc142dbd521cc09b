//! LoRA adapters as models of their own: each answers through the engine of its base, in the same batches.

use std::{path::PathBuf, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt};

use super::{
    Loaded, Settings,
    fingerprint::{self, Content, Input},
};
use crate::{
    backend::{self, Backend, ModelCard, Readiness, Tokenizer},
    generation::{Error, Events, GenerationRequest},
    model::{Adapter, Model},
};

/// An adapter that is to be served.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    id: String,
    directory: PathBuf,
    settings: Settings,
}

/// One that is. Its place among them is its number in the engine.
pub(super) struct Served {
    id: String,
    settings: Settings,
    card: ModelCard,
}

impl Wanted {
    pub(super) fn new(id: &str, config: &backend::Config) -> Self {
        let directory = config.candle.adapter.clone().unwrap_or_default();
        Self { id: id.to_owned(), directory, settings: Settings::of(config) }
    }

    /// `base` are the hashes of the base's files, `card` makes a card of all that the answers depend on.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn serve(
        &self,
        base: &[Input],
        card: impl Fn(Vec<Input>, &Settings) -> ModelCard,
    ) -> Result<Served, String> {
        let files = Adapter::files(&self.directory).map(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            (name.unwrap_or_default(), Content::File(path))
        });
        let inputs = [base, &fingerprint::hash(&files)?].concat();
        let (id, settings) = (self.id.clone(), self.settings.clone());
        Ok(Served { id, card: card(inputs, &settings), settings })
    }
}

/// The model with these adapters.
///
/// # Errors
/// Which of them cannot be served, and why.
pub(super) fn open(base: Model, wanted: &[Wanted]) -> Result<Model, String> {
    let open = |wanted: &Wanted| {
        Adapter::open(&wanted.directory).map_err(|error| format!("the adapter '{}': {error}", wanted.id))
    };
    let adapters = wanted.iter().map(open).collect::<Result<_, _>>()?;
    base.adapted(adapters).map_err(|error| error.to_string())
}

/// One adapter of a model that is loaded.
pub(super) struct Adapted {
    base: Arc<Loaded>,
    number: usize,
}

impl Adapted {
    /// `None` where it has no such adapter.
    pub(super) fn new(base: &Arc<Loaded>, id: &str) -> Option<Self> {
        let number = base.adapters.iter().position(|served| served.id == id)?;
        Some(Self { base: Arc::clone(base), number })
    }

    fn served(&self) -> &Served {
        &self.base.adapters[self.number]
    }
}

impl Backend for Adapted {
    fn card(&self) -> &ModelCard {
        &self.served().card
    }

    fn readiness(&self) -> Readiness {
        self.base.readiness()
    }

    fn generate(&self, request: GenerationRequest) -> BoxFuture<'_, Result<Events, Error>> {
        async move {
            let number = u32::try_from(self.number).map_err(|error| Error::Internal(error.to_string()))?;
            self.base.generate(request, &self.served().settings, Some(number))
        }
        .boxed()
    }

    fn tokenizer(&self) -> Option<&dyn Tokenizer> {
        Some(&*self.base)
    }
}
