"""How a step is carried out: task types, the attempt's pipeline and the road to Celery.

Authors of tasks need `workers.registry.task`, `workers.context.TaskContext` and `workers.errors`.
"""
