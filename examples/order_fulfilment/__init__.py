"""An order goes through ERP, CRM, payment and shipping; whatever fails undoes the rest."""
