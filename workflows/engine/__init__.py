"""The heart: a plan and an event in; what changes, and what to do about it, out.

Pure: neither Django, Celery, a clock, chance nor a log. Read `states`, `plan` and `advance`, in
this order. Then what `advance` calls:

    starting  trying  waiting  ending     the life of a step: joins, attempts, waits, ends
    scopes  looping                       steps that own steps, once or many times
    approving  listening                  what a step asks of people, and of events
    operators  compensating               what people do about a run, and undoing it
    forking  migrating                    runs that go on from another, or in another version

They all work on a `Draft`, which turns a `Slice` of a run into a `Decision`; `joins`,
`precedence`, `policy` and `values` answer single questions. A definition becomes a plan in
`compile`; `preflight` says whether a run can go over to another, and `breaker` is the law of
guards. `simulate` plays all this in memory, on a virtual clock.
"""
