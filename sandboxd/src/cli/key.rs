//! `sandboxd key`: API keys. A key is printed once, when it is made; only its hash is stored.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::ids;
use crate::moment::Moment;
use crate::store::Store;
use crate::store::keys::ApiKey;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print it, once
    Create {
        /// What it is for
        #[arg(long, default_value = "")]
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// List keys
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Make a key invalid, within a second
    Revoke {
        /// Id of the key, as `list` shows it
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Where keys are kept.
#[derive(Debug, Args)]
pub struct Place {
    /// State folder of the daemon
    #[arg(long, env = "SANDBOXD_STATE_DIR", value_name = "DIR", default_value = super::settings::STATE_DIR)]
    state_dir: PathBuf,
}

/// Carries out a key command; the daemon may be running or not.
pub fn run(command: KeyCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        match command {
            KeyCommand::Create { name, place } => create(&place.open()?, name).await,
            KeyCommand::List { place } => list(&place.open()?).await,
            KeyCommand::Revoke { id, place } => revoke(&place.open()?, id).await,
        }
    })
}

impl Place {
    fn open(&self) -> anyhow::Result<Store> {
        super::serve::private_folder(&self.state_dir)?;
        Ok(Store::open(&self.state_dir)?)
    }
}

async fn create(store: &Store, name: String) -> anyhow::Result<()> {
    let secret = ids::api_key()?;
    let (head, tail) = (&secret[..8], &secret[secret.len() - 4..]);
    let key = ApiKey {
        id: uuid::Uuid::new_v4().to_string(),
        name,
        hash: ids::secret_hash(&secret),
        mask: format!("{head}…{tail}"),
        created_at: Moment::now(),
        revoked_at: None,
    };
    let id = key.id.clone();
    store.add_key(key).await?;
    println!("{secret}");
    eprintln!("This is the only time the key is shown. Its id is {id}.");
    Ok(())
}

async fn list(store: &Store) -> anyhow::Result<()> {
    for key in store.keys().await? {
        let state = match key.revoked_at {
            Some(at) => format!("revoked {at}"),
            None => "valid".to_owned(),
        };
        println!(
            "{}  {}  {}  {state}  {}",
            key.id, key.mask, key.created_at, key.name
        );
    }
    Ok(())
}

async fn revoke(store: &Store, id: String) -> anyhow::Result<()> {
    let revoked = store
        .revoke_key(id.clone(), Moment::now())
        .await
        .context("the key could not be revoked")?;
    if !revoked {
        bail!("There is no valid key with the id {id}. `sandboxd key list` shows all.");
    }
    println!("revoked {id}");
    Ok(())
}
