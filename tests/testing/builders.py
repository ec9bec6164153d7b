"""Workflows for the tests of the test kit."""

from workflows.testing import Workflow

SHOP = """\
workflow: shop
input:
  type: object
  properties:
    order: {type: integer, default: 7}
    express: {type: boolean, default: false}
steps:
  - {id: reserve, uses: shop.reserve, with: {order: "${{ input.order }}"}}
  - id: charge
    uses: shop.charge
    with: {cents: 900, stock: "${{ steps.reserve.output.stock }}"}
  - {id: hurry, uses: shop.hurry, when: "${{ input.express }}"}
  - {id: ship, uses: shop.ship}
output: {parcel: "${{ steps.ship.output }}"}
"""

STOCK = {"shop.reserve": {"stock": 3}}


def shop() -> Workflow:
    """Return a workflow of four tasks, of which the first has a value."""
    return Workflow.parse(SHOP, source="shop.yaml").given(stubs=STOCK)
