CREATE TABLE coverage (
    symbol VARCHAR(10) NOT NULL,
    first_session DATE NOT NULL,
    last_session DATE NOT NULL,
    PRIMARY KEY (symbol, first_session)
);
CREATE TABLE job_runs (
    run_id VARCHAR(36) NOT NULL,
    job_type VARCHAR(20) NOT NULL,
    payload TEXT NOT NULL,
    as_of DATE NOT NULL,
    provider TEXT NOT NULL,
    status VARCHAR(20) NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    api_calls INTEGER NOT NULL,
    inserted BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    unchanged BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    splits_until DATE,
    error TEXT,
    PRIMARY KEY (run_id)
);
CREATE TABLE rejected_bars (
    id BIGSERIAL NOT NULL,
    run_id VARCHAR(36) NOT NULL,
    symbol TEXT NOT NULL,
    date DATE,
    reason TEXT NOT NULL,
    bar TEXT NOT NULL,
    digest VARCHAR(64) NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (digest)
);
CREATE TABLE sent_reports (
    week DATE NOT NULL,
    status VARCHAR(20) NOT NULL,
    run_id VARCHAR(36) NOT NULL,
    message_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    recipients TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    claimed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (week)
);
CREATE TABLE splits (
    symbol VARCHAR(10) NOT NULL,
    execution_date DATE NOT NULL,
    split_from FLOAT NOT NULL,
    split_to FLOAT NOT NULL,
    restated_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (symbol, execution_date)
);
CREATE TABLE stock_data (
    date TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    symbol VARCHAR(10) NOT NULL,
    open NUMERIC,
    high NUMERIC,
    low NUMERIC,
    close NUMERIC,
    volume BIGINT,
    volatility NUMERIC,
    rolling_avg NUMERIC,
    daily_pct_change NUMERIC,
    UNIQUE (symbol, date)
);
INSERT INTO coverage (symbol, first_session, last_session) VALUES ('AAPL', '2013-01-22', '2013-02-26');
INSERT INTO coverage (symbol, first_session, last_session) VALUES ('FB', '2013-01-22', '2013-02-26');
INSERT INTO coverage (symbol, first_session, last_session) VALUES ('GOOG', '2013-01-22', '2013-02-26');
INSERT INTO coverage (symbol, first_session, last_session) VALUES ('IBM', '2013-01-22', '2013-02-26');
INSERT INTO coverage (symbol, first_session, last_session) VALUES ('MSFT', '2013-01-22', '2013-02-26');
INSERT INTO job_runs (run_id, job_type, payload, as_of, provider, status, started_at, finished_at, api_calls, inserted, updated, unchanged, rejected, splits_until, error) VALUES ('63d3b613-99cf-47fb-a45c-97b5e8777d19', 'daily_update', '{"as_of": "2013-02-21", "job_type": "daily_update", "symbols": "AAPL,FB,GOOG,IBM,MSFT"}', '2013-02-21', '127.0.0.1', 'ok', '2026-11-24T17:13:37.629534+00:00', '2026-11-24T17:13:38.233893+00:00', 2, 5, 0, 0, 0, '2013-02-21', NULL);
INSERT INTO job_runs (run_id, job_type, payload, as_of, provider, status, started_at, finished_at, api_calls, inserted, updated, unchanged, rejected, splits_until, error) VALUES ('6650036d-05da-4795-a5b6-1ff1edbc46c6', 'initialize', '{"as_of": "2013-02-20", "job_type": "initialize", "sessions": 20, "symbols": "AAPL,FB,GOOG,IBM,MSFT"}', '2013-02-20', '127.0.0.1', 'ok', '2026-11-24T17:13:35.370135+00:00', '2026-11-24T17:13:35.987959+00:00', 5, 100, 0, 0, 0, '2013-02-20', NULL);
INSERT INTO job_runs (run_id, job_type, payload, as_of, provider, status, started_at, finished_at, api_calls, inserted, updated, unchanged, rejected, splits_until, error) VALUES ('8237c7d6-07ee-456b-b67d-344066d0f9a2', 'weekly_report', '{"as_of": "2013-02-23", "job_type": "weekly_report", "symbols": "AAPL,FB,GOOG,IBM,MSFT"}', '2013-02-23', '127.0.0.1', 'sent', '2026-11-24T17:13:43.243209+00:00', '2026-11-24T17:13:44.587723+00:00', 0, 0, 0, 0, 0, NULL, NULL);
INSERT INTO job_runs (run_id, job_type, payload, as_of, provider, status, started_at, finished_at, api_calls, inserted, updated, unchanged, rejected, splits_until, error) VALUES ('96f36fe7-9b58-49fb-9663-c6a35ec31701', 'daily_update', '{"as_of": "2013-02-23", "job_type": "daily_update", "symbols": "AAPL,FB,GOOG,IBM,MSFT"}', '2013-02-23', '127.0.0.1', 'ok', '2026-11-24T17:13:39.983079+00:00', '2026-11-24T17:13:40.590961+00:00', 3, 10, 0, 0, 0, '2013-02-23', NULL);
INSERT INTO job_runs (run_id, job_type, payload, as_of, provider, status, started_at, finished_at, api_calls, inserted, updated, unchanged, rejected, splits_until, error) VALUES ('c87da886-52b4-486e-a569-245896a30fa3', 'daily_update', '{"as_of": "2013-02-27", "job_type": "daily_update", "symbols": "AAPL,FB,GOOG,IBM,MSFT"}', '2013-02-27', '127.0.0.1', 'ok', '2026-11-24T17:13:47.389438+00:00', '2026-11-24T17:13:48.162257+00:00', 3, 10, 0, 0, 0, '2013-02-27', NULL);
INSERT INTO sent_reports (week, status, run_id, message_id, subject, recipients, attempts, claimed_at, sent_at) VALUES ('2013-02-18', 'sent', '8237c7d6-07ee-456b-b67d-344066d0f9a2', '<weekly-report-2013-02-22@localhost>', 'Weekly Market Report - Best: GOOG: 0.5% | Worst: FB: -3.9%', '', 1, '2026-11-24T17:13:44.398656+00:00', '2026-11-24T17:13:44.572738+00:00');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-22T00:00:00', 'AAPL', '504.56', '507.88', '496.63', '504.77', 16483800, '2.228738', NULL, NULL);
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-22T00:00:00', 'FB', '29.75', '30.89', '29.74', '30.729', 55243300, '3.742393', NULL, NULL);
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-22T00:00:00', 'GOOG', '704.66', '705.335', '695.52', '702.87', 7577200, '1.396418', NULL, NULL);
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-22T00:00:00', 'IBM', '194.36', '196.08', '194.01', '196.08', 7172300, '1.055692', NULL, NULL);
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-22T00:00:00', 'MSFT', '27.3', '27.45', 27, '27.15', 58650600, '1.657459', NULL, NULL);
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-23T00:00:00', 'AAPL', '508.81', '514.99', '504.77', '514.005', 30768200, '1.988308', NULL, '1.829546');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-23T00:00:00', 'FB', '31.1', '31.5', '30.8', '30.82', 48899800, '2.271252', NULL, '0.296137');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-23T00:00:00', 'GOOG', '735.99', 749, '735.79', '741.5', 11806300, '1.781524', NULL, '5.496038');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-23T00:00:00', 'IBM', '203.5', '208.58', '203.36', '204.72', 12530500, '2.549824', NULL, '4.406365');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-23T00:00:00', 'MSFT', '27.2', '27.635', '27.2', '27.61', 50387700, '1.575516', NULL, '1.694291');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-24T00:00:00', 'AAPL', 460, '465.73', '450.25', '450.5', 52173300, '3.436182', NULL, '-12.354938');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-24T00:00:00', 'FB', '31.27', '31.49', '30.81', '31.08', 43845100, '2.187902', NULL, '0.843608');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-24T00:00:00', 'GOOG', '741.24', '756.8298', '740.509', '753.83', 6758600, '2.16505', NULL, '1.662846');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-24T00:00:00', 'IBM', '203.91', '205.06', '203.08', '204.42', 4447200, '0.968594', NULL, '-0.146542');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-24T00:00:00', 'MSFT', '27.7', '28.07', '27.47', '27.63', 101739300, '2.171553', NULL, '0.072438');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-25T00:00:00', 'AAPL', '451.69', '456.23', 435, '439.88', 43143800, '4.826316', NULL, '-2.357381');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-25T00:00:00', 'FB', '31.41', '31.93', '31.13', '31.54', 54363600, '2.536462', NULL, '1.480051');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-25T00:00:00', 'GOOG', '750.77', '758.48', '750.25', '753.67', 4447300, '1.09199', NULL, '-0.021225');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-25T00:00:00', 'IBM', '204.45', '205.18', '204.13', '204.97', 3358900, '0.51227', NULL, '0.269054');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-25T00:00:00', 'MSFT', '27.58', '28.23', '27.39', '27.88', 81847700, '3.012912', NULL, '0.904814');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-28T00:00:00', 'AAPL', '437.825', '453.21', '435.86', '449.83', 28054200, '3.857013', '471.797', '2.261981');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-28T00:00:00', 'FB', '31.88', '32.5063', '31.81', '32.469', 59682500, '2.144507', '31.3276', '2.945466');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-28T00:00:00', 'GOOG', '751.76', '755.6', '747.89', '750.73', 3250900, '1.027', '740.52', '-0.390091');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-28T00:00:00', 'IBM', '204.85', '206.22', '204.29', '204.93', 2823700, '0.941785', '203.024', '-0.019515');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-28T00:00:00', 'MSFT', '28.01', '28.225', '27.76', '27.911', 56056500, '1.66601', '27.6362', '0.111191');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-29T00:00:00', 'AAPL', '458.5', '460.2', '452.12', '458.27', 20398500, '1.763153', '462.497', '1.876264');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-29T00:00:00', 'FB', 32, '32.07', '30.71', '30.79', 72976500, '4.417019', '31.3398', '-5.171086');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-29T00:00:00', 'GOOG', '746.75', '756.95', '746.54', '753.68', 3490700, '1.381223', '750.682', '0.392951');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-29T00:00:00', 'IBM', '204.34', '205.7301', '203.64', '203.9', 3617100, '1.025061', '204.588', '-0.502611');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-29T00:00:00', 'MSFT', '27.82', '28.13', '27.6', '28.01', 49242600, '1.892181', '27.8082', '0.354699');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-30T00:00:00', 'AAPL', 457, '462.6', '454.5', '456.83', 14898400, '1.773088', '451.062', '-0.314225');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-30T00:00:00', 'FB', '30.98', '31.49', '30.88', '31.24', 87682100, '1.952625', '31.4238', '1.461513');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-30T00:00:00', 'GOOG', '753.74', '760.95', '752.91', '753.83', 3462500, '1.066553', '753.148', '0.019902');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-30T00:00:00', 'IBM', '203.69', '204.88', '203.186', '203.52', 2998400, '0.832351', '204.348', '-0.186366');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-30T00:00:00', 'MSFT', '28.01', '28.19', '27.76', '27.85', 43580500, '1.543986', '27.8562', '-0.571225');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-31T00:00:00', 'AAPL', '456.98', '459.28', '454.98', '455.49', 11404800, '0.944038', '452.06', '-0.293326');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-31T00:00:00', 'FB', '29.15', '31.47', '28.74', '30.981', 190744900, '8.811852', '31.404', '-0.829065');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-31T00:00:00', 'GOOG', '750.51', '757.62', '750.25', '755.69', 3265100, '0.975268', '753.52', '0.24674');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-31T00:00:00', 'IBM', '203.32', '204.4699', '202.96', '203.07', 3091400, '0.743537', '204.078', '-0.221108');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-01-31T00:00:00', 'MSFT', '27.79', '27.97', '27.4', '27.45', 50530000, '2.076503', '27.8202', '-1.436266');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-01T00:00:00', 'AAPL', '459.11', '459.48', '448.35', '453.62', 19267300, '2.453596', '454.808', '-0.410547');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-01T00:00:00', 'FB', '31.01', '31.02', '29.63', '29.73', 85856700, '4.675412', '31.042', '-4.037959');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-01T00:00:00', 'GOOG', '758.2', '776.6', '758.1', '775.6', 7484700, '2.38525', '757.906', '2.634678');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-01T00:00:00', 'IBM', '204.65', '205.35', '203.84', '205.18', 3370700, '0.735939', '204.12', '1.039051');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-01T00:00:00', 'MSFT', '27.67', '28.05', '27.55', '27.93', 55565900, '1.79019', '27.8302', '1.748634');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-04T00:00:00', 'AAPL', '453.91', '455.94', 442, '442.316', 17039900, '3.151593', '453.3052', '-2.491954');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-04T00:00:00', 'FB', '29.06', '29.2', '28.01', '28.109', 92362200, '4.23352', '30.17', '-5.452405');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-04T00:00:00', 'GOOG', '767.69', '770.474', '758.27', '759.02', 6074900, '1.607863', '759.564', '-2.1377');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-04T00:00:00', 'IBM', '204.19', '205.02', '203.57', '203.79', 3188800, '0.711517', '203.892', '-0.677454');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-04T00:00:00', 'MSFT', '27.87', '28.02', '27.42', '27.44', 50540000, '2.186589', '27.736', '-1.754386');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-05T00:00:00', 'AAPL', '444.05', '459.74', '442.22', '457.844', 20476700, '3.826631', '453.22', '3.510612');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-05T00:00:00', 'FB', '28.26', '28.96', '28.04', '28.64', 47948200, '3.212291', '29.74', '1.889075');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-05T00:00:00', 'GOOG', '761.13', '771.11', '759.465', '765.74', 3737600, '1.520751', '761.976', '0.885352');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-05T00:00:00', 'IBM', '204.31', '204.75', '202.51', '202.79', 3636900, '1.104591', '203.67', '-0.490701');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-05T00:00:00', 'MSFT', '27.62', '27.66', '27.36', '27.495', 35410400, '1.091107', '27.633', '0.200437');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-06T00:00:00', 'AAPL', '456.47', '466.5', '452.58', '457.35', 21203800, '3.043621', '453.324', '-0.107897');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-06T00:00:00', 'FB', '28.74', '29.29', '28.66', '29.05', 38375900, '2.168675', '29.302', '1.431564');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-06T00:00:00', 'GOOG', '759.07', '772.96', '758.5', '770.17', 4152000, '1.877508', '765.244', '0.578525');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-06T00:00:00', 'IBM', '200.39', '201.29', '199.56', '201.02', 3624200, '0.860611', '203.17', '-0.872824');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-06T00:00:00', 'MSFT', '27.3799', '27.54', '27.25', '27.34', 41889600, '1.060717', '27.531', '-0.563739');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-07T00:00:00', 'AAPL', '463.25', 470, '454.12', '468.22', 25163600, '3.391568', '455.87', '2.376736');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-07T00:00:00', 'FB', '29.11', '29.15', '28.27', '28.65', 34540100, '3.071553', '28.8358', '-1.376936');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-07T00:00:00', 'GOOG', '769.7', '778.8099', '765.5', '773.95', 5674700, '1.719736', '768.896', '0.490801');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-07T00:00:00', 'IBM', '200.62', '200.91', '198.68', '199.74', 3076700, '1.116451', '202.504', '-0.636753');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-07T00:00:00', 'MSFT', '27.35', '27.39', '27.1', '27.283', 38028300, '1.062933', '27.4976', '-0.208486');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-08T00:00:00', 'AAPL', 474, '478.81', '468.25', '474.98', 22612800, '2.223252', '460.142', '1.443766');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-08T00:00:00', 'FB', '28.89', '29.17', '28.51', '28.545', 37708800, '2.312139', '28.5988', '-0.366492');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-08T00:00:00', 'GOOG', '780.13', '786.67', '779.56', '785.37', 6034100, '0.905306', '770.85', '1.475548');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-08T00:00:00', 'IBM', '199.97', '202.09', '199.68', '201.68', 2893300, '1.194962', '201.804', '0.971263');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-08T00:00:00', 'MSFT', '27.35', '27.71', '27.31', '27.55', 33318500, '1.451906', '27.4216', '0.978631');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-11T00:00:00', 'AAPL', '476.5', '484.94', '473.25', '479.93', 18481800, '2.435772', '467.6648', '1.042149');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-11T00:00:00', 'FB', '28.61', '28.68', '28.04', '28.26', 37361800, '2.264685', '28.629', '-0.998424');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-11T00:00:00', 'GOOG', '778.4', 783, '773.75', '782.42', 4331200, '1.182229', '775.53', '-0.375619');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-11T00:00:00', 'IBM', '200.98', '201.95', '199.75', '200.16', 2944700, '1.099121', '201.078', '-0.753669');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-11T00:00:00', 'MSFT', '27.65', '27.92', '27.5', '27.86', 32247700, '1.507538', '27.5056', '1.125227');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-12T00:00:00', 'AAPL', '479.51', '482.38', '467.744', '467.9', 21751900, '3.128019', '469.676', '-2.506616');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-12T00:00:00', 'FB', '27.67', '28.16', '27.1', '27.37', 93498700, '3.872853', '28.375', '-3.149328');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-12T00:00:00', 'GOOG', '781.75', '787.9', '779.37', '780.7', 3714200, '1.092609', '778.522', '-0.219831');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-12T00:00:00', 'IBM', '200.01', '200.735', '199.02', '200.04', 2461800, '0.857329', '200.528', '-0.059952');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-12T00:00:00', 'MSFT', '27.88', 28, '27.75', '27.88', 35990900, '0.8967', '27.5826', '0.071788');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-13T00:00:00', 'AAPL', '467.21', '473.64', '463.22', '467.01', 16971700, '2.231216', '471.608', '-0.190212');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-13T00:00:00', 'FB', '27.36', '28.32', '27.31', '27.9075', 50164000, '3.619099', '28.1465', '1.963829');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-13T00:00:00', 'GOOG', '780.13', '785.35', '779.97', '782.86', 2394000, '0.687224', '781.06', '0.276675');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-13T00:00:00', 'IBM', '200.65', '200.95', '199.57', '200.09', 2169800, '0.68969', '200.342', '0.024995');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-13T00:00:00', 'MSFT', '27.93', '28.11', '27.88', '28.03', 41715600, '0.820549', '27.7206', '0.53802');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-14T00:00:00', 'AAPL', '464.5199', '471.64', '464.02', '466.59', 12688400, '1.633125', '471.282', '-0.089934');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-14T00:00:00', 'FB', '28.02', '28.63', '28.01', '28.5', 35615800, '2.175439', '28.1165', '2.123085');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-14T00:00:00', 'GOOG', '779.73', '788.74', '777.77', '787.82', 3467100, '1.39245', '783.834', '0.633574');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-14T00:00:00', 'IBM', '199.73', '200.32', '199.26', '199.65', 3294200, '0.530929', '200.324', '-0.219901');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-14T00:00:00', 'MSFT', '27.92', '28.06', '27.87', '28.04', 32663200, '0.677603', '27.872', '0.035676');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-15T00:00:00', 'AAPL', '468.85', '470.16', '459.92', '460.16', 13990900, '2.225313', '468.318', '-1.378084');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-15T00:00:00', 'FB', '28.52', '28.75', '28.09', '28.32', 33109300, '2.330508', '28.0715', '-0.631579');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-15T00:00:00', 'GOOG', '787.4', '793.26', '787.07', '792.89', 5454100, '0.780688', '785.338', '0.643548');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-15T00:00:00', 'IBM', '199.98', '201.25', '199.82', '200.98', 3627800, '0.711514', '200.184', '0.666166');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-15T00:00:00', 'MSFT', '28.04', '28.16', '27.875', '28.01', 49650900, '1.017494', '27.964', '-0.10699');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-19T00:00:00', 'AAPL', '461.1', '462.73', '453.85', '459.99', 15563700, '1.930477', '464.33', '-0.036944');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-19T00:00:00', 'FB', '28.23', '29.08', '28.12', '28.93', 49396400, '3.318355', '28.2055', '2.153955');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-19T00:00:00', 'GOOG', '795.99', 807, '795.28', '806.85', 5857700, '1.452562', '790.224', '1.760648');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-19T00:00:00', 'IBM', '200.6', '201.89', '200.22', '200.32', 2998300, '0.833666', '200.216', '-0.328391');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-19T00:00:00', 'MSFT', '27.8801', '28.09', '27.8', '28.045', 38781400, '1.034052', '28.001', '0.124955');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-20T00:00:00', 'AAPL', '457.69', '457.69', '448.8', '448.85', 17010800, '1.980617', '460.52', '-2.421792');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-20T00:00:00', 'FB', '28.92', '29.05', '28.33', '28.462', 42098200, '2.529689', '28.4239', '-1.617698');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-20T00:00:00', 'GOOG', '805.3', '808.97', '791.794', '792.46', 5522800, '2.167428', '792.576', '-1.783479');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-20T00:00:00', 'IBM', '200.62', '201.72', '198.86', '199.31', 3715400, '1.434951', '200.07', '-0.504193');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-20T00:00:00', 'MSFT', '28.13', '28.2', '27.83', '27.87', 44110200, '1.327592', '27.999', '-0.623997');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-21T00:00:00', 'AAPL', 446, '449.17', '442.82', '446.06', 15970800, '1.423575', '456.33', '-0.621589');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-21T00:00:00', 'FB', '28.28', '28.55', '27.15', '27.283', 49642300, '5.131401', '28.299', '-4.142365');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-21T00:00:00', 'GOOG', 798, '805.45', '791.22', '795.53', 7005700, '1.788745', '795.11', '0.387401');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-21T00:00:00', 'IBM', '198.63', '199.07', '198.11', '198.33', 3922900, '0.484042', '199.718', '-0.491696');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-21T00:00:00', 'MSFT', '27.74', '27.74', '27.23', '27.49', 49078500, '1.85522', '27.891', '-1.363473');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-22T00:00:00', 'AAPL', '449.25', '451.6', '446.6', '450.81', 11809100, '1.109115', '453.174', '1.064879');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-22T00:00:00', 'FB', '27.62', '27.63', '26.82', '27.13', 36350200, '2.985625', '28.025', '-0.560789');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-22T00:00:00', 'GOOG', '799.26', '801.25', '793.8', '799.71', 4103600, '0.931588', '797.488', '0.525436');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-22T00:00:00', 'IBM', '199.23', '201.09', '198.84', '201.09', 3107900, '1.118902', '200.006', '1.39162');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-22T00:00:00', 'MSFT', '27.68', '27.76', '27.48', '27.76', 31425900, '1.008646', '27.835', '0.982175');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-25T00:00:00', 'AAPL', '453.85', '455.12', '442.57', '442.8', 13306400, '2.834237', '449.702', '-1.776802');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-25T00:00:00', 'FB', '27.16', '27.64', '27.15', '27.27', 34652000, '1.796846', '27.815', '0.516034');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-25T00:00:00', 'GOOG', '802.3', '808.41', '790.49', '790.77', 4603100, '2.266146', '797.064', '-1.117905');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-25T00:00:00', 'IBM', '201.67', '202.49', '197.51', '197.51', 3844800, '2.521391', '199.312', '-1.780297');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-25T00:00:00', 'MSFT', '27.97', '28.05', '27.37', '27.37', 48011800, '2.484472', '27.707', '-1.404899');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-26T00:00:00', 'AAPL', '443.82', '451.54', '437.66', '448.97', 17910700, '3.091521', '447.498', '1.393406');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-26T00:00:00', 'FB', '27.36', '27.46', '26.7', '27.39', 31611700, '2.774735', '27.507', '0.440044');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-26T00:00:00', 'GOOG', 795, '795.9499', '784.4', '790.13', 4400500, '1.461772', '793.72', '-0.080934');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-26T00:00:00', 'IBM', '198.63', '199.9', '197.84', '199.14', 3391600, '1.034448', '199.076', '0.825275');
INSERT INTO stock_data (date, symbol, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change) VALUES ('2013-02-26T00:00:00', 'MSFT', '27.38', '27.6', '27.34', '27.37', 49923300, '0.949945', '27.572', 0);
