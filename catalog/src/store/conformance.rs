//! What every store must do, as a test that any store can be put to.
//!
//! [`check`] panics with the broken promise. The store must be empty, and is left with objects.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::doctor::{self, Conditions};
use super::{GetRange, ObjectClass, ObjectKey, PutOptions, Store, StoreExt};

const CREATE: PutOptions = PutOptions::create(ObjectClass::Passing);
const OVERWRITE: PutOptions = PutOptions::overwrite(ObjectClass::Passing);
const CREATORS: u8 = 16;
const LISTED: usize = 1100;

/// Larger than what any store puts in one request, and no multiple of any size of parts.
const LARGE: usize = 70 * 1024 * 1024 + 77;

/// What a store says that it can do. The suite finds out whether that is true, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `Create` fails when the name is taken. Without it one must never be relied on.
    pub conditional_put: bool,
}

/// Puts `store`, which claims to do everything, to the test.
pub async fn check(store: Arc<dyn Store>) {
    check_claims(store, Claims { conditional_put: true }).await;
}

/// Puts `store` to the test of what it claims.
pub async fn check_claims(store: Arc<dyn Store>, claims: Claims) {
    absence_is_a_fact(&*store).await;
    let conditions = doctor::conditional_put(&*store).await.expect("the probe ends");
    let is_kept = conditions == Conditions::Kept;
    assert_eq!(is_kept, claims.conditional_put, "the probe sees what the store claims");
    if claims.conditional_put {
        creating_never_replaces(&*store).await;
        one_of_many_creators_wins(&store, "race/put").await;
        one_of_many_uploaders_wins(&store, "race/upload").await;
    }
    keys_come_back_as_they_were(&*store).await;
    large_uploads_come_back_whole(&*store).await;
    ranges_are_cut_at_the_end(&*store).await;
    uploads_appear_when_finished(&*store).await;
    deleting_twice_succeeds(&*store).await;
    listings_are_ordered_and_paged(&*store).await;
    prefixes_are_whole_components(&*store).await;
}

fn key(text: &str) -> ObjectKey {
    text.parse().expect("this file names keys")
}

async fn put(store: &dyn Store, name: &str, body: &'static [u8], how: PutOptions) {
    store.put(&key(name), Bytes::from_static(body), how).await.expect("put succeeds");
}

async fn read(store: &dyn Store, name: &str, range: GetRange) -> Bytes {
    store.get(&key(name), range).await.expect("get succeeds").bytes
}

async fn is_absent(store: &dyn Store, name: &str) -> bool {
    let got = store.get(&key(name), GetRange::All).await;
    let head = store.head(&key(name)).await;
    let is_absent = got.is_err_and(|error| error.is_not_found());
    assert_eq!(is_absent, head.is_err_and(|error| error.is_not_found()), "get and head agree");
    is_absent
}

async fn names(store: &dyn Store, prefix: &str) -> Vec<String> {
    let listed = store.list_all(prefix).await.expect("list succeeds");
    listed.into_iter().map(|listed| listed.key.to_string()).collect()
}

async fn absence_is_a_fact(store: &dyn Store) {
    assert!(is_absent(store, "absent").await, "what was never put is not found");
    assert!(is_absent(store, "absent/below").await, "what was never put is not found");
    assert!(names(store, "").await.is_empty(), "an empty store lists nothing");
    assert!(names(store, "absent/").await.is_empty(), "an absent prefix lists nothing");
}

async fn creating_never_replaces(store: &dyn Store) {
    put(store, "mode/one", b"first", CREATE).await;
    let again = store.put(&key("mode/one"), Bytes::from_static(b"second"), CREATE).await;
    assert!(again.is_err_and(|e| e.is_already_exists()), "a second create is refused");
    assert_eq!(read(store, "mode/one", GetRange::All).await, "first");
    put(store, "mode/one", b"third", OVERWRITE).await;
    assert_eq!(read(store, "mode/one", GetRange::All).await, "third");
    put(store, "mode/two", b"", OVERWRITE).await;
    assert_eq!(read(store, "mode/two", GetRange::All).await, "", "an object may be empty");
}

async fn one_of_many_creators_wins(store: &Arc<dyn Store>, name: &'static str) {
    let mut creators = JoinSet::new();
    for number in 0..CREATORS {
        let store = Arc::clone(store);
        creators.spawn(async move {
            let body = Bytes::from(vec![number; 10_000]);
            (number, store.put(&key(name), body, CREATE).await)
        });
    }
    expect_one_winner(&**store, name, creators.join_all().await).await;
}

async fn one_of_many_uploaders_wins(store: &Arc<dyn Store>, name: &'static str) {
    let mut creators = JoinSet::new();
    for number in 0..CREATORS {
        let store = Arc::clone(store);
        creators.spawn(async move {
            let mut upload = store.upload(&key(name), CREATE).await.expect("upload begins");
            for _ in 0..2 {
                upload.write(Bytes::from(vec![number; 5_000])).await.expect("write succeeds");
            }
            (number, upload.finish().await)
        });
    }
    expect_one_winner(&**store, name, creators.join_all().await).await;
}

async fn expect_one_winner(store: &dyn Store, name: &str, ends: Vec<(u8, crate::Result<()>)>) {
    let (won, lost): (Vec<_>, Vec<_>) = ends.into_iter().partition(|(_, end)| end.is_ok());
    let winners: Vec<u8> = won.into_iter().map(|(number, _)| number).collect();
    let &[winner] = winners.as_slice() else {
        unreachable!("exactly one creator wins, not {winners:?}")
    };
    for (_, end) in lost {
        assert!(end.is_err_and(|e| e.is_already_exists()), "the others learn that they lost");
    }
    let body = read(store, name, GetRange::All).await;
    assert_eq!(body, vec![winner; 10_000], "the winner's object is there, whole");
}

async fn ranges_are_cut_at_the_end(store: &dyn Store) {
    put(store, "range", b"0123456789", CREATE).await;
    for (range, expected) in [
        (GetRange::All, "0123456789"),
        (GetRange::Range(0..3), "012"),
        (GetRange::Range(3..3), ""),
        (GetRange::Range(8..100), "89"),
        (GetRange::Range(10..20), ""),
        (GetRange::Range(50..60), ""),
        (GetRange::Suffix(0), ""),
        (GetRange::Suffix(4), "6789"),
        (GetRange::Suffix(100), "0123456789"),
    ] {
        let object = store.get(&key("range"), range.clone()).await.expect("get succeeds");
        assert_eq!(object.bytes, expected, "{range:?}");
        assert_eq!(store.head(&key("range")).await.expect("head succeeds"), 10);
        assert_eq!(object.size, 10, "the size is that of the whole object, for {range:?}");
    }
}

async fn uploads_appear_when_finished(store: &dyn Store) {
    let name = key("upload/one");
    let mut upload = store.upload(&name, CREATE).await.expect("upload begins");
    upload.write(Bytes::from_static(b"given up")).await.expect("write succeeds");
    drop(upload);
    assert!(is_absent(store, "upload/one").await, "an abandoned upload leaves nothing");

    let mut upload = store.upload(&name, CREATE).await.expect("upload begins");
    upload.write(Bytes::from_static(b"in ")).await.expect("write succeeds");
    assert!(is_absent(store, "upload/one").await, "an unfinished upload is invisible");
    assert!(names(store, "upload/").await.is_empty(), "an unfinished upload is not listed");
    upload.write(Bytes::from_static(b"parts")).await.expect("write succeeds");
    upload.finish().await.expect("finish succeeds");
    assert_eq!(read(store, "upload/one", GetRange::All).await, "in parts");

    let upload = store.upload(&name, OVERWRITE).await.expect("upload begins");
    upload.finish().await.expect("finish succeeds");
    assert_eq!(read(store, "upload/one", GetRange::All).await, "");
}

/// All characters that a key may have, where a URL, a signature or a file system might stumble.
async fn keys_come_back_as_they_were(store: &dyn Store) {
    let long = "x".repeat(200);
    let mut expected =
        ["0-9._", "A-Z.a-z", "Z", "_", "a", "a-", "a--b", "a.b..c", "aA", "case", "CASE", "z"]
            .map(|name| format!("key/{name}"))
            .to_vec();
    expected.push(format!("key/{long}/{long}/end"));
    for name in &expected {
        store.put(&key(name), Bytes::from(name.clone()), OVERWRITE).await.expect("put succeeds");
    }
    for name in &expected {
        assert_eq!(read(store, name, GetRange::All).await, name.as_str());
    }
    expected.sort();
    assert_eq!(names(store, "key/").await, expected, "keys are listed as they were put");
}

/// Each position has its own byte, whatever the sizes of parts and pages are.
fn large_body(range: std::ops::Range<usize>) -> Bytes {
    range.map(|at| u8::try_from((at + at / 251) % 251).expect("less than 251")).collect()
}

async fn large_uploads_come_back_whole(store: &dyn Store) {
    let name = key("large/upload");
    let mut upload = store.upload(&name, CREATE).await.expect("upload begins");
    let mut at = 0;
    while at < LARGE {
        let end = LARGE.min(at + 3_000_000);
        upload.write(large_body(at..end)).await.expect("write succeeds");
        at = end;
    }
    assert!(is_absent(store, "large/upload").await, "an unfinished upload is invisible");
    upload.finish().await.expect("finish succeeds");
    let size = LARGE as u64;
    assert_eq!(store.head(&name).await.expect("head succeeds"), size);
    for border in [5, 8, 16, 32, 64, 66].map(|megabytes| megabytes * 1024 * 1024) {
        let range = border - 3..border + 3;
        let wanted = GetRange::Range(range.start as u64..range.end as u64);
        let bytes = read(store, "large/upload", wanted).await;
        assert_eq!(bytes, large_body(range), "across {border}");
    }
    let end = read(store, "large/upload", GetRange::Suffix(9)).await;
    assert_eq!(end, large_body(LARGE - 9..LARGE));
    let whole = read(store, "large/upload", GetRange::All).await;
    assert!(whole == large_body(0..LARGE), "all parts are there, once, in order");

    let mut second = store.upload(&name, OVERWRITE).await.expect("upload begins");
    second.write(Bytes::from_static(b"small")).await.expect("write succeeds");
    second.finish().await.expect("finish succeeds");
    assert_eq!(read(store, "large/upload", GetRange::All).await, "small");
}

async fn deleting_twice_succeeds(store: &dyn Store) {
    put(store, "delete/one", b"x", CREATE).await;
    for _ in 0..2 {
        store.delete(&key("delete/one")).await.expect("delete succeeds");
        assert!(is_absent(store, "delete/one").await, "what was deleted is not found");
    }
    put(store, "delete/one", b"y", CREATE).await;
    assert_eq!(read(store, "delete/one", GetRange::All).await, "y", "the name is free again");
}

async fn listings_are_ordered_and_paged(store: &dyn Store) {
    let mut expected: Vec<String> = (0..LISTED).map(|n| format!("list/many/{n:08X}")).collect();
    // Directories do not sort as their names do: `-` and `.` come before `/`, digits after it.
    expected.extend(["list/many-", "list/many.x/y", "list/many0", "list/m/z"].map(str::to_owned));
    for name in &expected {
        store.put(&key(name), Bytes::from(name.clone()), CREATE).await.expect("put succeeds");
    }
    expected.sort();
    assert_eq!(names(store, "list/").await, expected, "all keys are listed once, in byte order");

    let first = store.list("list/", None, 3).await.expect("list succeeds");
    assert_eq!(first.len(), 3, "a page is as long as it was asked for");
    for listed in &first {
        assert_eq!(listed.size, listed.key.as_str().len() as u64, "sizes are listed");
    }
    // The start need not exist.
    let after = key("list/many/00000001-");
    let page = store.list("list/many/", Some(&after), 2).await.expect("list succeeds");
    let page: Vec<&str> = page.iter().map(|listed| listed.key.name()).collect();
    assert_eq!(page, ["00000002", "00000003"], "a page begins strictly after its start");
    let end = store.list("list/m/", Some(&after), 2).await.expect("list succeeds");
    assert!(end.is_empty(), "nothing comes after the end");
}

async fn prefixes_are_whole_components(store: &dyn Store) {
    assert_eq!(names(store, "list/m/").await, ["list/m/z"]);
    for prefix in ["list", "/", "../"] {
        assert!(store.list(prefix, None, 1).await.is_err(), "{prefix:?} is no prefix");
    }
}
