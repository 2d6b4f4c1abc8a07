DROP TABLE gateway_budgets;
