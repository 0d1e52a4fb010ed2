//! The block list, by range of addresses.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use event::{AddressRange, Timestamp};
use futures::future::join_all;
use pipeline::DependencyError;
use pipeline::ports::{Block, BlockList};
use time::OffsetDateTime;
use tokio_postgres::Row;

use crate::database::{Database, RollbackOnDrop};
use crate::error::PostgresError;
use crate::ledger::Corrupt;
use crate::statement::{Ready, parameter};
use crate::text::storable;

const LIST: &str = "SELECT * FROM blocks";

/// The condition is `Block::gives_way_to`.
const BLOCK: &str = "
    INSERT INTO blocks AS b (address, allows, \"from\", until, reason) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (address) DO UPDATE SET
        allows = excluded.allows, \"from\" = excluded.\"from\", until = excluded.until, reason = excluded.reason
    WHERE excluded.until IS NULL OR excluded.\"from\" = 'epoch'
       OR (b.until IS NOT NULL AND b.\"from\" <> 'epoch')
       OR b.until <= excluded.\"from\"";

const UNBLOCK: &str = "DELETE FROM blocks WHERE address = $1";

/// [`BlockList`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresBlockList {
    database: Database,
}

impl PostgresBlockList {
    pub fn new(database: Database) -> Self {
        PostgresBlockList { database }
    }

    async fn put_blocks(&self, blocks: &[Block]) -> Result<(), PostgresError> {
        if blocks.is_empty() {
            return Ok(());
        }
        // By address, so that two calls with the same addresses cannot deadlock; entries of one address keep their order.
        let mut blocks: Vec<&Block> = blocks.iter().collect();
        blocks.sort_by_cached_key(|block| block.address.to_string());
        let client = self.database.connection().await?;
        let work = async {
            let [statement] = self.database.ready(&client, [BLOCK]).await?;
            let rollback = RollbackOnDrop::new(&client);
            client.batch_execute(self.database.begin()).await?;
            // After a failure every later statement fails too, so the first error is the cause.
            for written in join_all(blocks.iter().map(|block| put_block(&client, &statement, block))).await {
                written?;
            }
            client.batch_execute("COMMIT").await?;
            rollback.finish();
            Ok(())
        };
        let result = self.database.within(work).await;
        self.database.give_back(client, result)
    }

    async fn listed(&self) -> Result<Vec<Block>, PostgresError> {
        self.database.query(LIST, &[]).await?.iter().map(block_of).collect()
    }
}

async fn put_block(client: &ClientWrapper, statement: &Ready, block: &Block) -> Result<(), PostgresError> {
    let (address, reason) = (block.address.to_string(), storable(&block.reason));
    let (from, until, reason) = (block.from.to_utc(), block.until.map(Timestamp::to_utc), reason.as_ref());
    let parameters =
        [parameter(&address), parameter(&block.allows), parameter(&from), parameter(&until), parameter(&reason)];
    statement.execute(client, &parameters).await?;
    Ok(())
}

fn block_of(row: &Row) -> Result<Block, PostgresError> {
    let address: &str = row.try_get("address")?;
    Ok(Block {
        address: address.parse().map_err(|_| Corrupt("blocks").column("address"))?,
        allows: row.try_get("allows")?,
        from: row.try_get::<_, OffsetDateTime>("from")?.into(),
        until: row.try_get::<_, Option<OffsetDateTime>>("until")?.map(Timestamp::from),
        reason: row.try_get("reason")?,
    })
}

#[async_trait]
impl BlockList for PostgresBlockList {
    async fn list(&self) -> Result<Vec<Block>, DependencyError> {
        self.listed().await.map_err(|error| error.into_dependency("reading the block list"))
    }

    async fn block(&self, blocks: &[Block]) -> Result<(), DependencyError> {
        self.put_blocks(blocks).await.map_err(|error| error.into_dependency("adding to the block list"))
    }

    async fn unblock(&self, address: AddressRange) -> Result<bool, DependencyError> {
        let removed = self.database.execute(UNBLOCK, &[parameter(&address.to_string())]).await;
        removed.map(|rows| rows > 0).map_err(|error| error.into_dependency("removing from the block list"))
    }
}
