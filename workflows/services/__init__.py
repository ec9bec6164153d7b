"""What can be done: one function, one transaction. Doors call these and nothing else.

    definitions  orders  runs  incidents  forking  migrating  what people do with workflows and runs
    approvals  callbacks  events  guards  profiles            what comes from outside, and holds up
    claiming  recording  scopes                               what workers do: claim, record, go on
    timers  recovery  sweep  retention                        what the clock does
    children  concurrency                                     what runs have to do with each other

`progress` is the way to the engine for all of them: it has events decided (`deciding`) and stored,
and has what follows sent (`sending`) after the commit (`flights`). The others are parts of these.
"""
