//! A page of changes. The lengths are queried first, so that rows that do not fit into the page are not sent.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::{bytes, number, query, query_opt, to_i64};
use crate::storage::StorageError;
use crate::storage::page::{HEADS_MAX, PageBudget, next, position_before};
use guillemet_wire::{
    AccountId, ChangedRecord, ChangesPage, DeviceId, EpochLink, Hash, ObjectId, PullCursor, Sealed, SealedHead,
    SealedRecord, Wrap,
};

/// Reads one page from one state of the database.
pub(super) async fn changes(
    transaction: &Transaction<'_>,
    account: AccountId,
    device: DeviceId,
    from: PullCursor,
    limit: usize,
) -> Result<ChangesPage, StorageError> {
    let newest = super::push::current_head(transaction, account).await?.newest;
    let account = account.0.as_slice();
    let pruned = query_opt(transaction, "SELECT pruned FROM accounts WHERE id = $1", &[&account]).await?;
    let pruned = pruned.map_or(Ok(0), |row| number(&row, 0))?;
    if from.heads_after < pruned {
        return Err(StorageError::ContinuityLost { pruned });
    }
    let mut room = PageBudget::default();
    let heads = heads(transaction, account, from.heads_after, &mut room).await?;
    let reached = heads.last().map_or(from.heads_after, |head| head.seq);
    let (records, cut) = records(transaction, account, &from, reached, limit, &mut room).await?;
    Ok(ChangesPage {
        newest,
        wraps: wraps(transaction, account, device, &heads).await?,
        links: links(transaction, account).await?,
        next: next(&from, reached, newest.map_or(0, |newest| newest.seq), &records, cut),
        heads,
        records,
    })
}

/// Returns how many of these rows fit into the page. Each row is the length of a box; the result is the limit for the
/// query of the boxes themselves.
fn count_fitting(lengths: &[Row], room: &mut PageBudget) -> Result<i64, StorageError> {
    let mut count = 0;
    for row in lengths {
        if !room.reserve(usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0)) {
            break;
        }
        count += 1;
    }
    Ok(count)
}

async fn heads(
    transaction: &Transaction<'_>,
    account: &[u8],
    after: u64,
    room: &mut PageBudget,
) -> Result<Vec<SealedHead>, StorageError> {
    let after = to_i64(after);
    let text = "SELECT length(box) FROM heads WHERE account = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    let lengths = query(transaction, text, &[&account, &after, &(HEADS_MAX as i64)]).await?;
    let count = count_fitting(&lengths, room)?;
    let text = "SELECT seq, epoch, prev, box FROM heads WHERE account = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    let mut heads = Vec::with_capacity(lengths.len());
    for row in query(transaction, text, &[&account, &after, &count]).await? {
        let (seq, epoch, prev) = (number(&row, 0)?, number(&row, 1)?, Hash(bytes(&row, 2)?));
        heads.push(SealedHead { seq, epoch, prev, sealed: Sealed(row.try_get(3)?) });
    }
    Ok(heads)
}

/// Reads the records of a page in order. Returns whether there are more.
async fn records(
    transaction: &Transaction<'_>,
    account: &[u8],
    from: &PullCursor,
    reached: u64,
    limit: usize,
    room: &mut PageBudget,
) -> Result<(Vec<ChangedRecord>, bool), StorageError> {
    const WHERE: &str = "FROM records WHERE account = $1 AND ended IS NULL AND (came, id) > ($2, $3) AND came <= $4
        ORDER BY came, id LIMIT $5";
    let ((after, id), reached) = (position_before(from), to_i64(reached));
    let (after, id) = (to_i64(after), id.0.as_slice());
    // One more than the limit shows whether there are more.
    let max_rows = limit as i64 + 1;
    let text = format!("SELECT coalesce(length(box), 0) {WHERE}");
    let lengths = query(transaction, &text, &[&account, &after, &id, &reached, &max_rows]).await?;
    let count = count_fitting(&lengths[..lengths.len().min(limit)], room)?;
    let text = format!("SELECT came, id, revision, epoch, box {WHERE}");
    let mut records = Vec::with_capacity(lengths.len());
    for row in query(transaction, &text, &[&account, &after, &id, &reached, &count]).await? {
        let id = ObjectId(bytes(&row, 1)?);
        let sealed = row.try_get::<_, Option<Vec<u8>>>(4)?.map(Sealed);
        let record = SealedRecord { id, revision: number(&row, 2)?, epoch: number(&row, 3)?, sealed };
        records.push(ChangedRecord { seq: number(&row, 0)?, record });
    }
    let cut = lengths.len() > records.len();
    Ok((records, cut))
}

/// Reads the wraps of the heads' epochs, oldest first: a recovery code looks for the one it was printed with.
async fn wraps(
    transaction: &Transaction<'_>,
    account: &[u8],
    device: DeviceId,
    heads: &[SealedHead],
) -> Result<Vec<Wrap>, StorageError> {
    let (Some(first), Some(last)) = (heads.first(), heads.last()) else {
        return Ok(Vec::new());
    };
    let text = "SELECT epoch, sender, box FROM wraps
        WHERE account = $1 AND device = $2 AND ended IS NULL AND epoch BETWEEN $3 AND $4 ORDER BY epoch, came";
    let id = device.0.as_slice();
    let mut wraps = Vec::new();
    for row in query(transaction, text, &[&account, &id, &to_i64(first.epoch), &to_i64(last.epoch)]).await? {
        let sender = DeviceId(bytes(&row, 1)?);
        wraps.push(Wrap { device, epoch: number(&row, 0)?, sender, sealed: Sealed(row.try_get(2)?) });
    }
    Ok(wraps)
}

/// Reads the newest link of every epoch.
async fn links(transaction: &Transaction<'_>, account: &[u8]) -> Result<Vec<EpochLink>, StorageError> {
    let text = "SELECT DISTINCT ON (epoch) epoch, box FROM links WHERE account = $1 ORDER BY epoch, came DESC";
    let mut links = Vec::new();
    for row in query(transaction, text, &[&account]).await? {
        links.push(EpochLink { epoch: number(&row, 0)?, sealed: Sealed(row.try_get(1)?) });
    }
    Ok(links)
}
