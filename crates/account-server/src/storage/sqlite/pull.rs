//! A page of changes.

use rusqlite::{Connection, params};

use crate::storage::StorageError;
use crate::storage::page::{HEADS_MAX, PageBudget, next, position_before};
use guillemet_wire::{
    AccountId, ChangedRecord, ChangesPage, DeviceId, EpochLink, Hash, HeadRef, ObjectId, PullCursor, Sealed,
    SealedHead, SealedRecord, Wrap,
};

/// Reads one page from one state of the file.
pub(super) fn changes(
    database: &Connection,
    account: AccountId,
    device: DeviceId,
    from: PullCursor,
    limit: usize,
) -> Result<ChangesPage, StorageError> {
    let newest = super::file::current_head(database, account)?.newest;
    let pruned = database
        .prepare_cached("SELECT pruned FROM accounts WHERE id = ?1")?
        .query_row([account.0], |row| row.get(0))?;
    if from.heads_after < pruned {
        return Err(StorageError::ContinuityLost { pruned });
    }
    let mut room = PageBudget::default();
    let heads = heads(database, account, from.heads_after, &mut room)?;
    let reached = heads.last().map_or(from.heads_after, |head| head.seq);
    let (records, cut) = records(database, account, &from, reached, limit, &mut room)?;
    let seq = newest.map_or(0, |newest: HeadRef| newest.seq);
    Ok(ChangesPage {
        newest,
        wraps: wraps(database, account, device, &heads)?,
        links: links(database, account)?,
        next: next(&from, reached, seq, &records, cut),
        heads,
        records,
    })
}

fn heads(
    database: &Connection,
    account: AccountId,
    after: u64,
    room: &mut PageBudget,
) -> Result<Vec<SealedHead>, StorageError> {
    let text = "SELECT seq, epoch, prev, box FROM heads WHERE account = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    let mut query = database.prepare_cached(text)?;
    let mut rows = query.query(params![account.0, after, HEADS_MAX])?;
    let mut heads = Vec::new();
    while let Some(row) = rows.next()? {
        let sealed = Sealed(row.get(3)?);
        if !room.reserve(sealed.0.len()) {
            break;
        }
        heads.push(SealedHead { seq: row.get(0)?, epoch: row.get(1)?, prev: Hash(row.get(2)?), sealed });
    }
    Ok(heads)
}

/// Reads the records of a page in order. Returns whether there are more.
fn records(
    database: &Connection,
    account: AccountId,
    from: &PullCursor,
    reached: u64,
    limit: usize,
    room: &mut PageBudget,
) -> Result<(Vec<ChangedRecord>, bool), StorageError> {
    let mut query = database.prepare_cached(
        "SELECT came, id, revision, epoch, box FROM records
        WHERE account = ?1 AND ended IS NULL AND (came, id) > (?2, ?3) AND came <= ?4 ORDER BY came, id LIMIT ?5",
    )?;
    let (after, id) = position_before(from);
    let mut rows = query.query(params![account.0, after, id.0, reached, limit + 1])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let sealed = row.get::<_, Option<Vec<u8>>>(4)?.map(Sealed);
        if records.len() == limit || !room.reserve(sealed.as_ref().map_or(0, |sealed| sealed.0.len())) {
            return Ok((records, true));
        }
        let record = SealedRecord { id: ObjectId(row.get(1)?), revision: row.get(2)?, epoch: row.get(3)?, sealed };
        records.push(ChangedRecord { seq: row.get(0)?, record });
    }
    Ok((records, false))
}

/// Reads the wraps of the heads' epochs, oldest first: a recovery code looks for the one it was printed with.
fn wraps(
    database: &Connection,
    account: AccountId,
    device: DeviceId,
    heads: &[SealedHead],
) -> Result<Vec<Wrap>, StorageError> {
    let (Some(first), Some(last)) = (heads.first(), heads.last()) else {
        return Ok(Vec::new());
    };
    let mut query = database.prepare_cached(
        "SELECT epoch, sender, box FROM wraps
        WHERE account = ?1 AND device = ?2 AND ended IS NULL AND epoch BETWEEN ?3 AND ?4 ORDER BY epoch, came",
    )?;
    let rows = query.query_map(params![account.0, device.0, first.epoch, last.epoch], |row| {
        Ok(Wrap { device, epoch: row.get(0)?, sender: DeviceId(row.get(1)?), sealed: Sealed(row.get(2)?) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Reads the newest link of every epoch.
fn links(database: &Connection, account: AccountId) -> Result<Vec<EpochLink>, StorageError> {
    let text = "SELECT epoch, box, max(came) FROM links WHERE account = ?1 GROUP BY epoch ORDER BY epoch";
    let mut query = database.prepare_cached(text)?;
    let rows = query.query_map([account.0], |row| Ok(EpochLink { epoch: row.get(0)?, sealed: Sealed(row.get(1)?) }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
