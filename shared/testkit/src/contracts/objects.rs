//! The contract of every [`ObjectStore`].
#![expect(clippy::expect_used, reason = "a contract suite fails by panicking")]

use bytes::Bytes;
use futures::future::join_all;
use pipeline::ErrorClass;
use pipeline::ports::{ObjectStore, PutResult};

/// Runs the suite. `prefix` ends with a slash and holds no object yet; objects stay there.
pub async fn objects_contract(store: &dyn ObjectStore, prefix: &str) {
    let suite = Suite { store, prefix };
    suite.an_object_comes_back_as_written().await;
    suite.a_key_is_written_once().await;
    suite.one_of_many_concurrent_writers_creates().await;
    suite.a_list_has_what_starts_with_the_prefix_in_byte_order().await;
    suite.an_absent_key_is_a_permanent_error().await;
}

struct Suite<'a> {
    store: &'a dyn ObjectStore,
    prefix: &'a str,
}

impl Suite<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn put(&self, name: &str, body: impl Into<Bytes>) -> PutResult {
        self.store.put_new(&self.key(name), body.into()).await.expect("a put of a key is answered")
    }

    async fn get(&self, name: &str) -> Bytes {
        self.store.get(&self.key(name)).await.expect("an object that was written is read")
    }

    async fn keys(&self, name: &str) -> Vec<String> {
        let listed = self.store.list(&self.key(name)).await.expect("a list is answered");
        listed.into_iter().map(|info| info.key).collect()
    }

    async fn an_object_comes_back_as_written(&self) {
        let every_byte: Vec<u8> = (0..=u8::MAX).cycle().take(300_000).collect();
        let bodies = [("bytes/empty", Vec::new()), ("bytes/text", b"a\r\nb\n".to_vec()), ("bytes/large", every_byte)];
        for (name, body) in bodies {
            assert_eq!(self.put(name, body.clone()).await, PutResult::Created, "{name}");
            assert_eq!(self.get(name).await, body, "{name}");
            let listed = self.store.list(&self.key(name)).await.expect("a list is answered");
            assert_eq!(listed.len(), 1, "{name}");
            assert_eq!(listed[0].size, body.len() as u64, "{name}");
        }
    }

    async fn a_key_is_written_once(&self) {
        assert_eq!(self.put("once", "first").await, PutResult::Created);
        assert_eq!(self.put("once", "first").await, PutResult::AlreadyThere);
        assert_eq!(self.put("once", "another and longer").await, PutResult::AlreadyThere);
        assert_eq!(self.get("once").await, "first", "an existing object is not changed");
    }

    async fn one_of_many_concurrent_writers_creates(&self) {
        for round in 0..4 {
            let name = format!("contended/{round}");
            let writers = (0..16).map(|writer: usize| {
                let name = &name;
                async move { (writer, self.put(name, writer.to_string().repeat(20_000)).await) }
            });
            let created: Vec<usize> = join_all(writers)
                .await
                .into_iter()
                .filter(|(_, result)| *result == PutResult::Created)
                .map(|(writer, _)| writer)
                .collect();
            assert_eq!(created.len(), 1, "exactly one writer creates the object");
            assert_eq!(
                self.get(&name).await,
                created[0].to_string().repeat(20_000),
                "the body is that of the writer that created it"
            );
        }
    }

    async fn a_list_has_what_starts_with_the_prefix_in_byte_order(&self) {
        let names = ["list/b=1/2", "list/b=1/10", "list/b=10/1", "list/a", "list/B", "list/b=1/x=y z+%é", "lists"];
        for name in names {
            self.put(name, name).await;
        }
        let mut sorted: Vec<String> =
            names.iter().filter(|name| name.starts_with("list/")).map(|name| self.key(name)).collect();
        sorted.sort();
        assert_eq!(self.keys("list/").await, sorted);
        assert_eq!(self.keys("list/b=1/1").await, [self.key("list/b=1/10")], "a prefix may end within a name");
        assert_eq!(self.keys("list/b=2").await, Vec::<String>::new());
    }

    async fn an_absent_key_is_a_permanent_error(&self) {
        let error = self.store.get(&self.key("absent")).await.expect_err("an absent key cannot be read");
        assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    }
}
