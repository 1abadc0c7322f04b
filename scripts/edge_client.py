"""Qdrant's engine itself (qdrant-edge-py) behind as much of QdrantClient as the random operations of clients_qdrant.py use.

Answers are Qdrant's; what is translated are the names of things. Ids in place of vectors are looked up here, as the server does that.
"""
import uuid

import qdrant_edge as edge

from qdrant_client import models
from qdrant_client.http.models import QueryResponse

DISTANCES = {"Cosine": edge.Distance.Cosine, "Euclid": edge.Distance.Euclid, "Dot": edge.Distance.Dot, "Manhattan": edge.Distance.Manhattan}


def plain(id_):
    return str(id_) if isinstance(id_, uuid.UUID) else id_


def vector(value):
    """A vector as the engine takes it: names, sparse ones, lists."""
    if isinstance(value, dict):
        return {name: vector(one) for name, one in value.items()}
    if isinstance(value, models.SparseVector):
        return edge.SparseVector(indices=value.indices, values=value.values)
    return value


def read_vector(value):
    if isinstance(value, dict):
        return {name: read_vector(one) for name, one in value.items()}
    if isinstance(value, edge.SparseVector):
        return models.SparseVector(indices=value.indices, values=value.values)
    return value


def match(value):
    kinds = ((models.MatchValue, edge.MatchValue, "value"), (models.MatchAny, edge.MatchAny, "any"), (models.MatchExcept, edge.MatchExcept, "except_"))
    for ours, theirs, key in kinds:
        if isinstance(value, ours):
            return theirs(getattr(value, key))
    raise NotImplementedError(value)


def condition(value):
    if isinstance(value, models.Filter):
        return filter_(value)
    if isinstance(value, models.HasIdCondition):
        return edge.HasIdCondition(set(value.has_id))
    if isinstance(value, models.IsEmptyCondition):
        return edge.IsEmptyCondition(value.is_empty.key)
    if isinstance(value, models.IsNullCondition):
        return edge.IsNullCondition(value.is_null.key)
    if isinstance(value, models.HasVectorCondition):
        return edge.HasVectorCondition(value.has_vector)
    assert isinstance(value, models.FieldCondition), value
    between = value.range and edge.RangeFloat(gte=value.range.gte, gt=value.range.gt, lte=value.range.lte, lt=value.range.lt)
    return edge.FieldCondition(value.key, match=value.match and match(value.match), range=between)


def filter_(value):
    if value is None:
        return None
    clause = lambda some: None if some is None else [condition(one) for one in some]
    return edge.Filter(must=clause(value.must), should=clause(value.should), must_not=clause(value.must_not))


def average(positive, negative):
    """The mean of some vectors, as far again from that of others: the server does this, not the engine."""
    def mean(vectors):
        sums = {}
        for vector in vectors:
            sparse = isinstance(vector, edge.SparseVector)
            for at, number in zip(vector.indices, vector.values) if sparse else enumerate(vector):
                sums[at] = sums.get(at, 0) + number / len(vectors)
        return sums

    near, far = mean(positive), mean(negative)
    sums = {at: 2 * near.get(at, 0) - far.get(at, 0) for at in near.keys() | far.keys()} if negative else near
    if isinstance(positive[0], edge.SparseVector):
        return edge.SparseVector(indices=sorted(sums), values=[sums[at] for at in sorted(sums)])
    return [sums[at] for at in range(len(positive[0]))]


def merged(one, other):
    """Clause by clause, as the server merges the filter of a query with that of a prefetch."""
    if one is None or other is None:
        return one or other
    both = lambda key: (getattr(one, key) or []) + (getattr(other, key) or []) or None
    return models.Filter(must=both("must"), should=both("should"), must_not=both("must_not"))


class EdgeClient:
    def __init__(self, folder):
        self.folder = folder

    def create_collection(self, name, vectors_config, sparse_vectors_config):
        dense = {key: edge.EdgeVectorParams(size=params.size, distance=DISTANCES[params.distance.value]) for key, params in vectors_config.items()}
        # of several segments Qdrant takes samples of what is nearest
        optimizers = edge.EdgeOptimizersConfig(default_segment_number=1)
        config = edge.EdgeConfig(vectors=dense, optimizers=optimizers, sparse_vectors={key: edge.EdgeSparseVectorParams() for key in sparse_vectors_config})
        self.folder.mkdir()
        self.shard = edge.EdgeShard.create(str(self.folder), config)

    def create_payload_index(self, name, field, kind):
        kinds = {"keyword": edge.PayloadSchemaType.Keyword, "integer": edge.PayloadSchemaType.Integer}
        self.update(edge.UpdateOperation.create_field_index(field, kinds[kind]))

    def update(self, operation):
        try:
            self.shard.update(operation)
        except Exception as error:  # the engine raises no other kind
            raise ValueError(str(error)) from error

    def change(self, kind, selector, *arguments):
        by_filter = isinstance(selector, models.Filter)
        operation = getattr(edge.UpdateOperation, kind + "_by_filter" * by_filter)
        self.update(operation(filter_(selector) if by_filter else selector, *arguments))

    def upsert(self, name, points):
        # 0.9.0 finds a point by a sparse vector that was removed before it got another: the old point goes, then the new one comes
        self.update(edge.UpdateOperation.delete_points([point.id for point in points]))
        self.update(edge.UpdateOperation.upsert_points([edge.Point(point.id, vector(point.vector), point.payload) for point in points]))

    def with_vectors(self, ids, change):
        """Sets points anew with other vectors, for the same reason. Those that are there are changed though others are not."""
        records = self.shard.retrieve(list(set(ids)), with_payload=True, with_vector=True)
        for record in records:
            vectors = change(record.id, read_vector(record.vector or {}))
            self.upsert(None, [models.PointStruct(id=plain(record.id), vector=vectors, payload=record.payload)])
        if len(records) < len(set(ids)):
            raise ValueError("a point is not there")

    def delete(self, name, selector):
        self.change("delete_points", selector)

    def set_payload(self, name, payload, selector, key=None):
        self.change("set_payload", selector, payload, key)

    def overwrite_payload(self, name, payload, selector):
        self.change("overwrite_payload", selector, payload)

    def delete_payload(self, name, keys, selector):
        self.change("delete_payload", selector, keys)

    def update_vectors(self, name, points):
        new = {point.id: point.vector for point in points}
        self.with_vectors(list(new), lambda id_, vectors: vectors | new[plain(id_)])

    def delete_vectors(self, name, vectors, selector):
        ids = selector
        if isinstance(selector, models.Filter):
            records, _ = self.shard.scroll(edge.ScrollRequest(limit=1_000_000, filter=filter_(selector)))
            ids = [record.id for record in records]
        self.with_vectors(ids, lambda _, kept: {key: one for key, one in kept.items() if key not in vectors})

    def count(self, name, count_filter=None):
        return models.CountResult(count=self.shard.count(edge.CountRequest(exact=True, filter=filter_(count_filter))))

    def scroll(self, name, scroll_filter=None, limit=10, with_vectors=False, order_by=None):
        request = edge.ScrollRequest(limit=limit, filter=filter_(scroll_filter), with_payload=True, with_vector=with_vectors, order_by=order_by and self.order(order_by))
        records, next_ = self.shard.scroll(request)
        return [models.Record(id=plain(r.id), payload=r.payload, vector=read_vector(r.vector), order_value=r.order_value) for r in records], next_ if next_ is None else plain(next_)

    @staticmethod
    def order(value):
        direction = {None: None, models.Direction.ASC: edge.Direction.Asc, models.Direction.DESC: edge.Direction.Desc}[value.direction]
        return edge.OrderBy(value.key, direction=direction, start_from=value.start_from)

    def input(self, value, using, named):
        """A vector, or the vector of a point."""
        if isinstance(value, (int, str)):
            found = self.shard.retrieve([value], with_payload=False, with_vector=[using])
            if not found or using not in (found[0].vector or {}):
                raise ValueError(f"point {value} has no vector {using}")
            named.append(value)
            return found[0].vector[using]
        return vector(value)

    def query(self, query, using, named):
        one = lambda value: self.input(value, using, named)
        pairs = lambda some: [edge.ContextPair(one(pair.positive), one(pair.negative)) for pair in some]
        if isinstance(query, models.NearestQuery):
            if query.mmr is None:
                return edge.Query.Nearest(one(query.nearest), using=using)
            if isinstance(query.nearest, models.SparseVector):
                raise NotImplementedError("the engine has no mmr of sparse vectors")
            # its lambda is of relevance
            return edge.Mmr(one(query.nearest), 1 - query.mmr.diversity, query.mmr.candidates_limit, using=using)
        if isinstance(query, models.RecommendQuery):
            asked = query.recommend
            if asked.strategy is None:
                positive, negative = ([one(v) for v in some or []] for some in (asked.positive, asked.negative))
                return edge.Query.Nearest(average(positive, negative), using=using)
            examples = edge.RecommendQuery([one(v) for v in asked.positive or []], [one(v) for v in asked.negative or []])
            kinds = {models.RecommendStrategy.BEST_SCORE: edge.Query.RecommendBestScore, models.RecommendStrategy.SUM_SCORES: edge.Query.RecommendSumScores}
            return kinds[asked.strategy](examples, using=using)
        if isinstance(query, models.DiscoverQuery):
            asked = query.discover
            return edge.Query.Discover(edge.DiscoverQuery(one(asked.target), pairs(asked.context)), using=using)
        if isinstance(query, models.ContextQuery):
            return edge.Query.Context(edge.ContextQuery(pairs(query.context)), using=using)
        if isinstance(query, models.OrderByQuery):
            return self.order(query.order_by)
        if isinstance(query, models.FusionQuery):
            return edge.Fusion.Rrf(2) if query.fusion == models.Fusion.RRF else edge.Fusion.Dbsf()
        if isinstance(query, models.RrfQuery):
            return edge.Fusion.Rrf(query.rrf.k, weights=query.rrf.weights)
        return edge.Query.Nearest(one(query), using=using)

    def asked(self, request, query, using, keep, limit, **more):
        named = []
        found = self.query(query, using or "", named)
        keep = models.Filter(must=[keep] if keep else None, must_not=[models.HasIdCondition(has_id=named)] if named else None)
        return request(limit=limit, query=found, filter=filter_(keep), params=edge.SearchParams(exact=True), **more)

    def query_points(self, name, query, using=None, limit=10, offset=0, query_filter=None, search_params=None, prefetch=()):
        prefetches = [self.asked(edge.Prefetch, one.query, one.using, merged(query_filter, one.filter), one.limit) for one in prefetch]
        if prefetches:
            # the engine joins it to those of prefetches by "and", not clause by clause
            query_filter = None
        more = dict(offset=offset, prefetches=prefetches or None, with_payload=True, with_vector=False)
        found = self.shard.query(self.asked(edge.QueryRequest, query, using, query_filter, limit, **more))
        return QueryResponse(points=[models.ScoredPoint(id=plain(p.id), version=p.version, score=p.score, payload=p.payload, order_value=p.order_value) for p in found])
