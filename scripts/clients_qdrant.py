"""Qdrant's clients against a real node, unmodified. Each test is a function named by the promise that it holds.

usage: clients_qdrant.py PATH_OF_LODE [TEST]..

Run by a Python that has qdrant-client, langchain-qdrant, llama-index-vector-stores-qdrant and qdrant-edge-py. LODE_SEED sets
the seed of the random operations; it is printed.
"""
import os
import pathlib
import random
import signal
import sys
import threading
import time
import uuid
import warnings

import harness
from edge_client import EdgeClient
from harness import test

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

SEED = int(os.environ.get("LODE_SEED", time.time_ns() % 1_000_000))


class Home(harness.Home):
    """A home whose node is asked by Qdrant's clients."""

    @property
    def url(self):
        return f"http://{self.address}"

    def client(self, **options):
        return QdrantClient(url=self.url, timeout=60, **options)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        # Left behind; with it, a command would take the home for itself before the next node can.
        (self.folder / "control.sock").unlink()


def served(work, name="home"):
    return Home(work / name).serve()


def refused(code, act):
    """That the server refuses with this status."""
    try:
        act()
    except UnexpectedResponse as error:
        assert error.status_code == code, f"{error.status_code}, expected {code}: {error}"
        return str(error)
    raise AssertionError(f"was not refused with {code}")


def ids(points):
    return [point.id for point in points]


@test
def the_client_finds_a_server_of_its_own_version(work):
    home = served(work)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = home.client()
        assert client.get_collections().collections == []
        info = client.info()
    assert info.version.startswith("1.20."), info
    told = [str(w.message) for w in caught if "version" in str(w.message).lower()]
    assert not told, told


@test
def a_token_is_the_api_key(work):
    home = served(work)
    home.client().create_collection("docs", vectors_config=models.VectorParams(size=2, distance="Dot"))
    token = home.lode("token", "create", "--scope", "write", "--model", "*/docs").splitlines()[-1].strip()
    refused(401, lambda: home.client().get_collection("docs"))
    # a key without TLS is warned of
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = home.client(api_key=token)
    client.upsert("docs", [models.PointStruct(id=1, vector=[1, 2])])
    assert client.count("docs").count == 1
    refused(404, lambda: client.create_collection("more", vectors_config=models.VectorParams(size=2, distance="Dot")))


@test
def everything_that_the_client_does_with_points_works(work):
    home = served(work)
    client = home.client()
    client.create_collection(
        "docs",
        vectors_config={"a": models.VectorParams(size=4, distance="Cosine", on_disk=True), "b": models.VectorParams(size=2, distance="Euclid")},
        sparse_vectors_config={"s": models.SparseVectorParams(modifier=models.Modifier.IDF)},
    )
    assert client.collection_exists("docs") and not client.collection_exists("none")
    for field, kind in [("tag", "keyword"), ("year", "integer"), ("text", models.TextIndexParams(type="text", tokenizer="word", lowercase=True))]:
        client.create_payload_index("docs", field, kind, wait=True)
    points = [
        models.PointStruct(
            id=i,
            vector={"a": [i, 1, 0, 0], "b": [i, 0], "s": models.SparseVector(indices=[1, i + 2], values=[0.5, 1.0])},
            payload={"tag": "even" if i % 2 == 0 else "odd", "year": 2000 + i, "text": f"number {i}", "deep": {"list": [{"x": i}]}},
        )
        for i in range(20)
    ]
    result = client.upsert("docs", points, wait=True)
    assert result.status == models.UpdateStatus.COMPLETED
    client.upload_points("docs", [models.PointStruct(id=100 + i, vector={"a": [0, 0, 1, i]}, payload={}) for i in range(300)], batch_size=64)
    client.upload_collection("docs", vectors=[{"b": [i, i]} for i in range(50)], ids=range(1000, 1050), payload=[{"i": i} for i in range(50)])
    client.upsert("docs", models.Batch(ids=[str(uuid.UUID(int=7)), 2000], vectors={"b": [[1, 1], [2, 2]]}, payloads=[{"u": 1}, {}]))
    assert client.count("docs").count == 20 + 300 + 50 + 2
    info = client.get_collection("docs")
    assert info.points_count == 372 and info.status == models.CollectionStatus.GREEN
    assert info.payload_schema["tag"].points == 20, info.payload_schema
    assert info.config.params.vectors["b"].distance == models.Distance.EUCLID

    found = client.query_points("docs", query=[1.0, 0, 0, 0], using="a", limit=3, with_payload=["tag", "deep.list[].x"], with_vectors=["b"]).points
    assert ids(found)[0] == 19 and found[0].payload == {"tag": "odd", "deep": {"list": [{"x": 19}]}} and found[0].vector == {"b": [19, 0]}
    even = models.Filter(must=[models.FieldCondition(key="tag", match=models.MatchValue(value="even"))])
    found = client.query_points("docs", query=[0.0, 0.0], using="b", query_filter=even, limit=5, search_params=models.SearchParams(exact=True)).points
    assert ids(found) == [0, 2, 4, 6, 8] and [p.score for p in found] == [0, 2, 4, 6, 8]
    found = client.query_points("docs", query=models.SparseVector(indices=[5], values=[1.0]), using="s").points
    assert ids(found) == [3]
    hybrid = client.query_points(
        "docs",
        prefetch=[models.Prefetch(query=[1.0, 0, 0, 0], using="a", limit=10), models.Prefetch(query=models.SparseVector(indices=[5], values=[1.0]), using="s", limit=10)],
        query=models.FusionQuery(fusion=models.Fusion.RRF),
        limit=3,
    ).points
    assert 3 in ids(hybrid), hybrid
    found = client.query_points("docs", query=models.RecommendQuery(recommend=models.RecommendInput(positive=[5], negative=[0])), using="b", limit=3).points
    assert len(found) == 3 and 5 not in ids(found)
    batch = client.query_batch_points("docs", [models.QueryRequest(query=[1.0, 0.0], using="b", limit=2), models.QueryRequest(query=5, using="b", limit=1)])
    assert [len(answer.points) for answer in batch] == [2, 1]
    groups = client.query_points_groups("docs", query=[0.0, 0.0], using="b", group_by="tag", limit=2, group_size=2).groups
    assert {group.id: ids(group.hits) for group in groups} == {"even": [0, 2], "odd": [1, 3]}

    records, offset = client.scroll("docs", limit=15)
    assert len(records) == 15 and offset == 15
    records, _ = client.scroll("docs", scroll_filter=models.Filter(must=[models.FieldCondition(key="text", match=models.MatchText(text="Number 7"))]))
    assert ids(records) == [7]
    assert client.facet("docs", key="tag").hits[0].count == 10
    client.set_payload("docs", {"new": 1}, points=[1, 2])
    client.overwrite_payload("docs", {"only": 1}, points=models.Filter(must=[models.FieldCondition(key="year", range=models.Range(gte=2019))]))
    client.delete_payload("docs", ["tag"], points=[1])
    client.clear_payload("docs", points_selector=[2])
    client.update_vectors("docs", [models.PointVectors(id=1, vector={"b": [50, 50]})])
    client.delete_vectors("docs", vectors=["s"], points=[1])
    first, second, last = client.retrieve("docs", [1, 2, 19], with_vectors=True)
    assert first.payload["new"] == 1 and "tag" not in first.payload and first.vector["b"] == [50, 50] and "s" not in first.vector
    assert second.payload == {} and last.payload == {"only": 1}
    client.batch_update_points("docs", [models.UpsertOperation(upsert=models.PointsList(points=[models.PointStruct(id=3000, vector={}, payload={"z": 1})])), models.DeleteOperation(delete=models.PointIdsList(points=[0]))])
    assert client.retrieve("docs", [3000])[0].payload == {"z": 1} and client.retrieve("docs", [0]) == []
    client.delete("docs", points_selector=models.FilterSelector(filter=models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="i"))])))
    assert client.count("docs").count == 50
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="docs", alias_name="now"))])
    assert client.count("now").count == 50 and client.get_aliases().aliases[0].alias_name == "now"
    client.update_collection("docs", optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1000))
    client.delete_payload_index("docs", "tag")
    refused(404, lambda: client.get_collection("none"))
    refused(400, lambda: client.upsert("docs", [models.PointStruct(id=1, vector={"b": [1, 2, 3]})]))
    refused(400, lambda: client.create_full_snapshot())
    client.delete_collection("docs")
    assert not client.collection_exists("docs")


@test
def langchain_works_unchanged(work):
    from langchain_core.documents import Document
    from langchain_core.embeddings import DeterministicFakeEmbedding
    from langchain_qdrant import QdrantVectorStore

    home = served(work)
    embedding = DeterministicFakeEmbedding(size=16)
    texts = [f"text number {i}" for i in range(30)]
    store = QdrantVectorStore.from_texts(texts, embedding, metadatas=[{"n": i} for i in range(30)], url=home.url, collection_name="chain")
    found = store.similarity_search_with_score("text number 7", k=3)
    assert found[0][0].page_content == "text number 7" and found[0][0].metadata["n"] == 7 and found[0][1] > 0.99, found
    only = models.Filter(must=[models.FieldCondition(key="metadata.n", range=models.Range(lt=5))])
    assert all(d.metadata["n"] < 5 for d in store.similarity_search("text number 7", k=5, filter=only))
    assert len(store.max_marginal_relevance_search("text number 7", k=4, fetch_k=12)) == 4
    [added] = store.add_documents([Document(page_content="one more", metadata={"n": 99})])
    assert store.get_by_ids([added])[0].page_content == "one more"
    assert store.delete([added]) and store.get_by_ids([added]) == []
    again = QdrantVectorStore.from_existing_collection(collection_name="chain", embedding=embedding, url=home.url)
    assert again.similarity_search("text number 3", k=1)[0].page_content == "text number 3"
    assert store.as_retriever(search_kwargs={"k": 2}).invoke("text number 1")[0].page_content == "text number 1"


@test
def llama_index_works_unchanged(work):
    from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
    from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery
    from llama_index.vector_stores.qdrant import QdrantVectorStore

    home = served(work)
    generator = random.Random(SEED)
    store = QdrantVectorStore(collection_name="index", client=home.client())
    nodes = []
    for i in range(20):
        node = TextNode(text=f"node {i}", metadata={"n": i, "kind": "a" if i < 10 else "b"}, embedding=[generator.gauss(0, 1) for _ in range(8)])
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"document {i % 3}")
        nodes.append(node)
    added = store.add(nodes)
    assert len(added) == 20
    answer = store.query(VectorStoreQuery(query_embedding=nodes[4].embedding, similarity_top_k=3))
    assert answer.nodes[0].get_content() == "node 4" and answer.similarities[0] > 0.99
    filters = MetadataFilters(filters=[MetadataFilter(key="kind", value="b")])
    answer = store.query(VectorStoreQuery(query_embedding=nodes[4].embedding, similarity_top_k=5, filters=filters))
    assert len(answer.nodes) == 5 and all(node.metadata["kind"] == "b" for node in answer.nodes)
    assert len(store.get_nodes(node_ids=[nodes[1].node_id])) == 1
    store.delete("document 1")
    answer = store.query(VectorStoreQuery(query_embedding=nodes[4].embedding, similarity_top_k=20))
    assert len(answer.nodes) == 13, len(answer.nodes)
    store.delete_nodes([nodes[0].node_id])
    index = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(embed_dim=8))
    assert index.as_retriever(similarity_top_k=2).retrieve("anything")
    assert StorageContext.from_defaults(vector_store=store).vector_store is store
    store.clear()


class Twins:
    """A node and another that answers as Qdrant does (qdrant-client's own local mode, or Qdrant's engine), which are asked for
    the same things."""

    def __init__(self, node, local, generator):
        self.node, self.local, self.random = node, local, generator
        self.steps = 0
        for client in (self.node, self.local):
            client.create_collection(
                "twins",
                vectors_config={"c": models.VectorParams(size=8, distance="Cosine"), "e": models.VectorParams(size=4, distance="Euclid"), "d": models.VectorParams(size=4, distance="Dot"), "m": models.VectorParams(size=4, distance="Manhattan")},
                sparse_vectors_config={"s": models.SparseVectorParams()},
            )
            for field, kind in (("tag", "keyword"), ("n", "integer")):
                with warnings.catch_warnings():
                    # the local mode says that it has none
                    warnings.simplefilter("ignore")
                    client.create_payload_index("twins", field, kind)
        # the local mode cannot discover in an empty collection
        points = [self.point() for _ in range(10)]
        self.both(lambda client: client.upsert("twins", points) and None)

    def vector(self, name):
        size = 8 if name == "c" else 4
        return [round(self.random.gauss(0, 1), 3) for _ in range(size)]

    def sparse(self):
        indices = sorted(self.random.sample(range(30), self.random.randint(1, 6)))
        return models.SparseVector(indices=indices, values=[round(self.random.uniform(0.1, 2), 6) for _ in indices])

    def id(self):
        number = self.random.randrange(120)
        return number if number % 3 else str(uuid.UUID(int=number))

    def payload(self):
        payload = {"tag": self.random.choice(["a", "b", "c"]), "n": self.random.randrange(50)}
        if self.random.random() < 0.5:
            payload["nested"] = {"list": [self.random.randrange(5) for _ in range(3)], "x": self.random.choice([None, True, 1.5, "é"])}
        if self.random.random() < 0.2:
            payload["tags"] = self.random.sample(["a", "b", "c"], 2)
        return payload

    def point(self):
        vectors = {name: self.vector(name) for name in "cedm" if self.random.random() < 0.9}
        if self.random.random() < 0.8:
            vectors["s"] = self.sparse()
        return models.PointStruct(id=self.id(), vector=vectors, payload=self.payload())

    def condition(self, depth):
        pick = self.random.randrange(9 if depth < 2 else 8)
        if pick == 0:
            return models.FieldCondition(key="tag", match=models.MatchValue(value=self.random.choice("abcd")))
        if pick == 1:
            return models.FieldCondition(key="n", range=models.Range(gte=self.random.randrange(50), lt=self.random.randrange(60)))
        if pick == 2:
            return models.HasIdCondition(has_id=[self.id() for _ in range(20)])
        if pick == 3:
            return models.IsEmptyCondition(is_empty=models.PayloadField(key=self.random.choice(["nested", "tags", "nested.x"])))
        if pick == 4:
            return models.FieldCondition(key="nested.list", match=models.MatchAny(any=[self.random.randrange(5), 3]))
        if pick == 5:
            return models.FieldCondition(key="tag", match=models.MatchExcept(**{"except": ["a"]}))
        if pick == 6:
            return models.IsNullCondition(is_null=models.PayloadField(key="nested.x"))
        if pick == 7:
            return models.HasVectorCondition(has_vector=self.random.choice("ceds"))
        return self.filter(depth + 1)

    def filter(self, depth=0):
        clause = lambda: [self.condition(depth) for _ in range(self.random.randint(1, 2))]
        return models.Filter(
            must=clause() if self.random.random() < 0.6 else None,
            should=clause() if self.random.random() < 0.4 else None,
            must_not=clause() if self.random.random() < 0.3 else None,
        )

    def both(self, act):
        """Does the same with both; either answers, or both refuse."""
        answers = []
        for client in (self.node, self.local):
            try:
                answers.append((act(client), None))
            except NotImplementedError:
                return None, None
            except (UnexpectedResponse, ValueError, KeyError) as error:
                answers.append((None, error))
        (node, refused_node), (local, refused_local) = answers
        assert bool(refused_node) == bool(refused_local), f"step {self.steps}: {refused_node} against {refused_local}"
        return node, local

    def change(self):
        selector = self.filter() if self.random.random() < 0.3 else [self.id() for _ in range(self.random.randint(1, 3))]
        pick = self.random.randrange(10)
        if pick < 4:
            points = [self.point() for _ in range(self.random.randint(1, 15))]
            self.both(lambda client: client.upsert("twins", points) and None)
        elif pick == 4:
            self.both(lambda client: client.delete("twins", selector) and None)
        elif pick == 5:
            payload = self.payload()
            key = self.random.choice([None, None, "nested"])
            self.both(lambda client: client.set_payload("twins", payload, selector, key=key) and None)
        elif pick == 6:
            payload = self.payload()
            self.both(lambda client: client.overwrite_payload("twins", payload, selector) and None)
        elif pick == 7:
            keys = self.random.sample(["tag", "n", "nested.x", "tags", "nested.list[]"], 2)
            self.both(lambda client: client.delete_payload("twins", keys, selector) and None)
        elif pick == 8:
            points = [models.PointVectors(id=self.id(), vector={"c": self.vector("c"), "s": self.sparse()})]
            self.both(lambda client: client.update_vectors("twins", points) and None)
        else:
            names = self.random.sample("cedms", 1)
            self.both(lambda client: client.delete_vectors("twins", names, selector) and None)

    def compare(self):
        keep = self.filter() if self.random.random() < 0.6 else None
        node, local = self.both(lambda client: client.count("twins", count_filter=keep).count)
        assert node == local, f"step {self.steps}: count {node}, not {local}, of {keep}"
        limit = self.random.randint(1, 40)
        node, local = self.both(lambda client: client.scroll("twins", scroll_filter=keep, limit=limit, with_vectors=True))
        self.same_records(node[0], local[0])
        assert node[1] == local[1], f"step {self.steps}: the next page is at {node[1]}, not {local[1]}"
        self.ordered(keep, limit)
        self.sampled(keep, limit)
        for _ in range(3):
            self.query(keep)

    def ordered(self, keep, limit):
        """Points by a field: those of equal values come in any order, and at the end any of them are left out."""
        direction = self.random.choice([None, models.Direction.ASC, models.Direction.DESC])
        order = models.OrderBy(key="n", direction=direction, start_from=self.random.choice([None, None, 20]))
        node, local = self.both(lambda client: client.scroll("twins", scroll_filter=keep, limit=limit, order_by=order)[0])
        pairs = lambda records: [(record.order_value, str(record.id)) for record in records]
        told = f"step {self.steps}: {order} {keep}\n{pairs(node)}\n{pairs(local)}"
        assert [record.order_value for record in node] == [record.order_value for record in local], told
        last = node[-1].order_value if node else None
        inner = lambda records: sorted(pair for pair in pairs(records) if pair[0] != last)
        assert inner(node) == inner(local), told
        asked = models.OrderByQuery(order_by=order)
        found = self.node.query_points("twins", query=asked, query_filter=keep, limit=limit).points
        assert pairs(found) == pairs(node) and all(point.score == 1 for point in found), told

    def sampled(self, keep, limit):
        """Any points that pass, each once."""
        asked = models.SampleQuery(sample=models.Sample.RANDOM)
        found = ids(self.node.query_points("twins", query=asked, query_filter=keep, limit=limit).points)
        count = self.node.count("twins", count_filter=keep).count
        assert len(set(found)) == len(found) == min(limit, count), f"step {self.steps}: {found} of {count}"
        chosen = models.Filter(must=[models.HasIdCondition(has_id=found)] + ([keep] if keep else []))
        assert self.node.count("twins", count_filter=chosen).count == len(found), self.steps

    def query(self, keep):
        name = self.random.choice("cedms")
        one = lambda: self.sparse() if name == "s" else self.vector(name)
        limit, offset = self.random.randint(1, 12), self.random.choice([0, 0, 3])
        exact = models.SearchParams(exact=True)
        options = dict(using=name, limit=limit, offset=offset, query_filter=keep, search_params=exact)
        pick = self.random.randrange(9)
        if pick <= 1:
            query = one()
        elif pick == 2:
            query = self.id()
        elif pick == 3:
            query = models.RecommendQuery(recommend=models.RecommendInput(positive=[one(), one()], negative=[one()] if self.random.random() < 0.5 else []))
        elif pick == 4:
            strategy = self.random.choice([models.RecommendStrategy.BEST_SCORE, models.RecommendStrategy.SUM_SCORES])
            query = models.RecommendQuery(recommend=models.RecommendInput(positive=[one()], negative=[one()], strategy=strategy))
        elif pick == 5:
            query = models.NearestQuery(nearest=one(), mmr=models.Mmr(diversity=0.4, candidates_limit=20))
            options["offset"] = 0
        elif pick == 6:
            pairs = [models.ContextPair(positive=one(), negative=one()) for _ in range(self.random.randint(1, 3))]
            query = models.DiscoverQuery(discover=models.DiscoverInput(target=one(), context=pairs))
        elif pick == 7:
            pairs = [models.ContextPair(positive=one(), negative=one()) for _ in range(self.random.randint(1, 3))]
            query = models.ContextQuery(context=pairs)
        else:
            fusion = self.random.choice([models.FusionQuery(fusion=models.Fusion.RRF), models.FusionQuery(fusion=models.Fusion.DBSF), models.RrfQuery(rrf=models.Rrf(k=10, weights=[1.0, 3.0]))])
            prefetch = [models.Prefetch(query=self.vector("c"), using="c", limit=15, params=exact), models.Prefetch(query=self.sparse(), using="s", limit=15, filter=self.filter())]
            options = dict(limit=limit, query_filter=keep, prefetch=prefetch)
            query = fusion
        # floats of singles and doubles order what is nearly equal otherwise
        node, local = self.both(lambda client: client.query_points("twins", query=query, **options).points)
        if node is None:
            return
        told = f"step {self.steps}: {query} {options}\n{[(p.id, p.score) for p in node]}\n{[(p.id, p.score) for p in local]}"
        assert len(node) == len(local), told
        for ours, theirs in zip(node, local):
            assert abs(ours.score - theirs.score) <= 1e-4 * max(1, abs(theirs.score)), told
        # of equal scores any may come first, and of those at either end any may be left out
        scores = [round(p.score, 3) for p in local]
        for at, score in enumerate(scores):
            if scores.count(score) == 1 and score not in (scores[0], scores[-1]):
                assert node[at].id == local[at].id, told
        for ours, theirs in zip(node, local):
            if ours.id == theirs.id:
                assert ours.payload == theirs.payload, told

    def same_records(self, node, local):
        assert ids(node) == ids(local), f"step {self.steps}: {ids(node)} against {ids(local)}"
        for ours, theirs in zip(node, local):
            assert ours.payload == theirs.payload, f"step {self.steps}: point {ours.id} has {ours.payload}, not {theirs.payload}"
            mine, other = ours.vector or {}, theirs.vector or {}
            assert mine.keys() == other.keys(), f"step {self.steps}: point {ours.id} has {mine.keys()}, not {other.keys()}"
            for name in mine:
                if name == "s":
                    assert mine[name].indices == other[name].indices, self.steps
                    numbers = zip(mine[name].values, other[name].values)
                else:
                    numbers = zip(mine[name], other[name])
                assert all(abs(a - b) < 1e-5 for a, b in numbers), f"step {self.steps}: vector {name} of {ours.id}"


def same_as(home, local):
    """Random operations on a node and on another come to the same, across a kill of the node."""
    print(f"seed {SEED}", flush=True)
    twins = Twins(home.client(), local, random.Random(SEED))
    for twins.steps in range(int(os.environ.get("LODE_STEPS", 300))):
        twins.change()
        if twins.steps % 3 == 0:
            twins.compare()
        if twins.steps == 150:
            home.kill()
            home.serve()
            twins.node = home.client()


@test
def random_operations_come_to_the_same_as_in_the_clients_own_local_mode(work):
    same_as(served(work), QdrantClient(":memory:"))


@test
def random_operations_come_to_the_same_as_in_qdrants_own_engine(work):
    same_as(served(work), EdgeClient(work / "edge"))


@test
def a_collection_is_recovered_from_a_snapshot(work):
    home = served(work)
    client = home.client()
    client.create_collection("docs", vectors_config=models.VectorParams(size=2, distance="Dot"))
    write = lambda first, last: client.upsert("docs", [models.PointStruct(id=i, vector=[i, 1], payload={"n": i}) for i in range(first, last)])
    write(0, 50)
    made = client.create_snapshot("docs")
    write(50, 60)
    client.delete("docs", [1, 2, 3])
    later = client.create_snapshot("docs")
    assert {s.name: s for s in client.list_snapshots("docs")} == {made.name: made, later.name: later}
    assert client.recover_snapshot("docs", made.name, checksum=made.checksum)
    assert client.count("docs").count == 50 and len(client.retrieve("docs", [1, 55])) == 1
    write(100, 101)
    home.kill()
    home.serve()
    client = home.client()
    assert client.count("docs").count == 51
    assert client.recover_snapshot("copy", f"{home.url}/collections/docs/snapshots/{later.name}")
    assert client.count("copy").count == 57 and client.retrieve("copy", [1]) == []
    for location in ("file:///etc/passwd", "http://127.0.0.1:1/collections/docs/snapshots/x.snapshot"):
        refused(400, lambda: client.recover_snapshot("docs", location))
    refused(404, lambda: client.recover_snapshot("docs", "none.snapshot"))
    refused(400, lambda: client.recover_snapshot("docs", made.name, checksum="0" * 64))
    assert client.delete_snapshot("docs", made.name)
    assert [s.name for s in client.list_snapshots("docs")] == [later.name]
    refused(404, lambda: client.delete_snapshot("docs", made.name))
    client.delete_collection("docs")
    assert client.count("copy").count == 57


@test
def what_was_acknowledged_is_there_after_a_kill(work):
    home = served(work)
    client = home.client()
    client.create_collection("docs", vectors_config=models.VectorParams(size=4, distance="Dot"))
    generator = random.Random(SEED)
    acknowledged = set()
    for round_ in range(3):
        stop, sent = threading.Event(), [0]

        def write(client, worker):
            number = 0
            while not stop.is_set():
                point = round_ * 1_000_000 + worker * 100_000 + number
                try:
                    client.upsert("docs", [models.PointStruct(id=point, vector=[point, 1, 2, 3], payload={"n": point})], wait=number % 2 == 0)
                except Exception:
                    return
                acknowledged.add(point)
                sent[0] += 1
                number += 1

        threads = [threading.Thread(target=write, args=(home.client(), worker)) for worker in range(3)]
        [thread.start() for thread in threads]
        target = generator.randrange(50, 250)
        deadline = time.monotonic() + 60
        while sent[0] < target and time.monotonic() < deadline:
            time.sleep(0.001)
        home.kill()
        stop.set()
        [thread.join() for thread in threads]
        assert sent[0] >= target, "the writers wrote"
        home.serve()
        client = home.client()
        there = {}
        offset = None
        while True:
            records, offset = client.scroll("docs", limit=1000, offset=offset, with_vectors=True)
            there.update({record.id: record for record in records})
            if offset is None:
                break
        lost = acknowledged - there.keys()
        assert not lost, f"lost {sorted(lost)[:10]}"
        assert all(record.payload == {"n": record.id} for record in there.values())
        assert len(there) <= len(acknowledged) + 3 * (round_ + 1), "only what was under way is there besides"


if __name__ == "__main__":
    harness.main(sys.argv[2:])
